/** Uploads in a row, cut off and killed while phones pull the latest, in the short form; `npm run drill -- apk` is the long one. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { runApks } from '../../drills/apk/run.ts'
import { seededRandom } from '../../testkit/random.ts'
import { createDatabase } from '../helpers/database.ts'

t.test('no build without all its bytes, whatever breaks off or is killed', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-data-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const figures = await runApks({
    databaseUrl: await createDatabase(t),
    dir,
    uploads: 5,
    minBytes: 1_000_000,
    maxBytes: 2_500_000,
    cuts: 1,
    phones: 3,
    random: seededRandom(1),
    print: (line) => t.comment(line),
  })
  for (const { promise, measured, isHeld, isTimed } of figures) {
    t.ok(isHeld || isTimed, `${promise}: ${measured}`)
  }
})
