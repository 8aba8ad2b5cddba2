/** Promise R5 in its short form: two replicas, a hostile FCM, kills in between; `npm run drill -- R5` is the long one. */

import t from 'tap'
import { runCommands } from '../../drills/commands/run.ts'
import { seededRandom } from '../../testkit/random.ts'
import { databaseEnvironment } from '../helpers/drill.ts'

t.test('200 commands, 2 kills: none is lost, none runs twice, none is sent too soon', async (t) => {
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  const figures = await runCommands({
    ...(await databaseEnvironment(t)),
    commands: 200,
    kills: 2,
    devices: 20,
    darkDevices: 0,
    ratePerS: 60,
    heartbeatIntervalS: 2,
    leaseCutS: 5,
    random: seededRandom(seed),
  })
  for (const { promise, measured, isHeld } of figures) t.ok(isHeld, `${promise}: ${measured}`)
})
