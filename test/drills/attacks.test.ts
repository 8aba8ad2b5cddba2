/**
 * Every row of known attacks in its short form; `npm run drill -- attacks` is the long one, which also judges how fast the
 * service is meanwhile. Here a stall counts from 10 s on: before they were bounded, the attacks cost a minute.
 */

import t from 'tap'
import { runCheckRow } from '../../drills/attacks/check-row.ts'
import { prepareEnvironment } from '../../drills/attacks/environment.ts'
import { TINY } from '../../drills/attacks/length.ts'
import { BYTES_ROWS } from '../../drills/attacks/rows/bytes.ts'
import { CLIENTS_ROWS } from '../../drills/attacks/rows/clients.ts'
import { DOWNLOADS_ROWS } from '../../drills/attacks/rows/downloads.ts'
import { PUSH_ROWS } from '../../drills/attacks/rows/push.ts'
import { REQUESTS_CHECKS } from '../../drills/attacks/rows/requests.ts'
import { runTogether } from '../../drills/attacks/together.ts'
import { createDatabase } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'

/** MiB. Before, row 2 alone took 500. */
const SMALL_HEAP = 80

const dir = tempDirectory(t)
const place = await prepareEnvironment(await createDatabase(t), dir)

/** Of row 4 what needs no minute; of row 7 what stopped the pushes of all phones: its two forms need an FCM each. */
const [activeClients, otherClients] = [CLIENTS_ROWS.slice(0, 2), CLIENTS_ROWS.slice(2)]
const GROUPS = [
  BYTES_ROWS,
  [...DOWNLOADS_ROWS.slice(0, 3), ...PUSH_ROWS.slice(1), ...activeClients],
  otherClients,
]

t.test('attacks at once, on a small heap: it lives, and honest clients are served', async (t) => {
  const figures = await runTogether({
    groups: GROUPS,
    place,
    length: TINY,
    heapMib: SMALL_HEAP,
    print: (line) => t.comment(line),
  })
  for (const { promise, measured, isHeld, isTimed } of figures) {
    t.ok(isHeld || isTimed, `${promise}\n${measured}`)
  }
})

/** Rows 8 and 14 are about the process at its start: config.test.ts, start.test.ts, systemd.test.ts, deploy.test.ts. */
for (const row of REQUESTS_CHECKS) {
  t.test(`row ${row.row}, ${row.title}`, async (t) => {
    const { measured, isHeld } = await runCheckRow(row, place)
    t.ok(isHeld, measured)
  })
}
