/** Two replicas, a hostile FCM, kills in between: `npm run drill -- R5` and `-- jobs` in their short forms. */

import t from 'tap'
import { runCommands } from '../../drills/commands/run.ts'
import { runJobs } from '../../drills/jobs/run.ts'
import { seededRandom } from '../../testkit/random.ts'
import { databaseEnvironment, held } from '../helpers/drill.ts'

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

t.test('a job of 90 phones, 2 kills: each member ends once, and each read is true', async (t) => {
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  held(
    t,
    await runJobs({
      ...(await databaseEnvironment(t)),
      devices: 90,
      kills: 2,
      perMinute: 1_200,
      heartbeatIntervalS: 1,
      ttlS: 3_600,
      hasSilent: false,
      watchedS: 1,
      leaseCutS: 5,
      random: seededRandom(seed),
    }),
  )
})
