/** Promise R5 in its short form: two replicas, a hostile FCM, kills in between; `npm run drill -- R5` is the long one. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { runCommands } from '../../drills/commands/run.ts'
import { seededRandom } from '../../testkit/random.ts'
import { createDatabase } from '../helpers/database.ts'

t.test('200 commands, 2 kills: none is lost, none runs twice, none is sent too soon', async (t) => {
  const databaseUrl = await createDatabase(t)
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-data-'))
  t.teardown(() => rmSync(dataDir, { recursive: true, force: true }))
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  const figures = await runCommands({
    databaseUrl,
    dataDir,
    commands: 200,
    kills: 2,
    devices: 20,
    darkDevices: 0,
    ratePerS: 60,
    heartbeatIntervalS: 2,
    leaseCutS: 5,
    random: seededRandom(seed),
    print: (line) => t.comment(line),
  })
  for (const { promise, measured, isHeld } of figures) t.ok(isHeld, `${promise}: ${measured}`)
})
