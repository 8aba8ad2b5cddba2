/** The short form of `npm run drill -- events`. */
import t from 'tap'
import { runEvents } from '../../drills/events/run.ts'
import { seededRandom } from '../../testkit/random.ts'
import { databaseEnvironment, held } from '../helpers/drill.ts'

t.test('4,000 events, 2 kills of replicas and 2 of readers: each is read once', async (t) => {
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  const figures = await runEvents({
    ...(await databaseEnvironment(t)),
    events: 4_000,
    kills: 2,
    random: seededRandom(seed),
  })
  held(t, figures)
})
