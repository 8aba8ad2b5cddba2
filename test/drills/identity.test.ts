/** The short form of `npm run drill -- identity`. */
import t from 'tap'
import { runIdentity } from '../../drills/identity/run.ts'
import { seededRandom } from '../../testkit/random.ts'
import { databaseEnvironment, held } from '../helpers/drill.ts'

t.test(
  '40 phones, 20 changes of kind, 160 commands, 2 kills: no identity and no command is lost',
  async (t) => {
    const seed = Date.now() % 1_000_000
    t.comment(`seed ${seed}`)
    const figures = await runIdentity({
      ...(await databaseEnvironment(t)),
      devices: 40,
      commands: 160,
      kills: 2,
      ratePerS: 60,
      heartbeatIntervalS: 2,
      leaseCutS: 5,
      random: seededRandom(seed),
    })
    held(t, figures)
  },
)
