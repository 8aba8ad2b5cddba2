/** `npm run drill -- attacks`: promise R13, row by row, each on its own service; or the first three at once on a small heap. Linux. */
import { type DatabaseEnvironment, defineDrill, type Figure, UsageError } from '../drill.ts'
import { runCheckRow } from './check-row.ts'
import { prepareEnvironment } from './environment.ts'
import { runSmallHeap } from './heap.ts'
import { FULL, type Length, SHORT } from './length.ts'
import { runLoadRow } from './load-row.ts'
import { BYTES_ROWS } from './rows/bytes.ts'
import { CLIENTS_ROWS } from './rows/clients.ts'
import { DOWNLOADS_ROWS } from './rows/downloads.ts'
import { PROCESS_CHECKS } from './rows/process.ts'
import { PUSH_ROWS } from './rows/push.ts'
import { REQUESTS_CHECKS } from './rows/requests.ts'

interface AttacksRun extends DatabaseEnvironment {
  /** undefined: all */
  readonly rows: ReadonlySet<number> | undefined
  readonly length: Length
  /** undefined: all rows in turn. */
  readonly heap: { readonly mib: number; readonly minutes: number } | undefined
}

const LOAD_ROWS = [...BYTES_ROWS, ...DOWNLOADS_ROWS, ...CLIENTS_ROWS, ...PUSH_ROWS]
const CHECK_ROWS = [...PROCESS_CHECKS, ...REQUESTS_CHECKS]

const ROWS: ReadonlySet<number> = new Set([...LOAD_ROWS, ...CHECK_ROWS].map(({ row }) => row))

export const attacksDrill = defineDrill({
  name: 'attacks',
  promise:
    'whatever an attacker does, /healthz answers within 100 ms, honest phones hardly notice, memory and log stay bounded (R13)',
  options: {
    rows: { standard: 'all', what: `of ${[...ROWS].sort((a, b) => a - b).join(',')}` },
    short: { standard: false, what: 'seconds instead of minutes, fewer sockets' },
    rounds: { standard: 3, what: 'windows of attack for each row; --short has one' },
    heap: { standard: 0, what: 'MiB: rows 1 to 3 at once on a service with so small a heap' },
    minutes: { standard: 10, what: 'of --heap' },
  },
  needs: 'postgres',
  run: ({ rows, short, rounds, heap, minutes }, environment) => {
    const chosen = rows === 'all' ? undefined : new Set(rows.split(',').map(Number))
    const unknown = [...(chosen ?? [])].filter((row) => !ROWS.has(row))
    if (unknown.length > 0) throw new UsageError(`--rows has no row ${unknown.join(', ')}`)
    if (rounds < 1) throw new UsageError('--rounds is a number from 1')
    return runAttacks({
      ...environment,
      rows: chosen,
      length: short ? SHORT : { ...FULL, rounds },
      heap: heap === 0 ? undefined : { mib: heap, minutes },
    })
  },
})

async function runAttacks(run: AttacksRun): Promise<readonly Figure[]> {
  const { databaseUrl, dir, rows = ROWS, length, heap, print } = run
  print(`Node ${process.version}`)
  const place = await prepareEnvironment(databaseUrl, dir)
  if (heap !== undefined) return [await runSmallHeap({ ...heap, place, length, print })]
  const byRow = [
    ...LOAD_ROWS.map((row) => ({
      row: row.row,
      run: () => runLoadRow(row, { place, length, print }),
    })),
    ...CHECK_ROWS.map((row) => ({ row: row.row, run: () => runCheckRow(row, place) })),
  ]
  const figures: Figure[] = []
  for (const { row, run: runRow } of byRow.sort((one, other) => one.row - other.row)) {
    if (!rows.has(row)) continue
    const figure = await runRow()
    print(`${figure.isHeld ? 'held' : 'MISSED'}: ${figure.promise.split(':')[0]}`)
    figures.push(figure)
  }
  return figures
}
