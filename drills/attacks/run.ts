/** The run of promise R13: row after row, each on a service of its own; or the first three at once on a small heap. */
import type { Figure } from '../drill.ts'
import { runCheckRow } from './check-row.ts'
import { prepareEnvironment } from './environment.ts'
import { runSmallHeap } from './heap.ts'
import type { Length } from './length.ts'
import { runLoadRow } from './load-row.ts'
import { BYTES_ROWS } from './rows/bytes.ts'
import { CLIENTS_ROWS } from './rows/clients.ts'
import { DOWNLOADS_ROWS } from './rows/downloads.ts'
import { PROCESS_CHECKS } from './rows/process.ts'
import { PUSH_ROWS } from './rows/push.ts'
import { REQUESTS_CHECKS } from './rows/requests.ts'

export interface AttacksRun {
  readonly databaseUrl: string
  readonly dir: string
  /** Of attacks.md; undefined: all. */
  readonly rows: ReadonlySet<number> | undefined
  readonly length: Length
  /** undefined: row after row. */
  readonly heap: { readonly mib: number; readonly minutes: number } | undefined
  readonly print: (line: string) => void
}

const LOAD_ROWS = [...BYTES_ROWS, ...DOWNLOADS_ROWS, ...CLIENTS_ROWS, ...PUSH_ROWS]
const CHECK_ROWS = [...PROCESS_CHECKS, ...REQUESTS_CHECKS]

export const ROWS: ReadonlySet<number> = new Set(
  [...LOAD_ROWS, ...CHECK_ROWS].map(({ row }) => row),
)

export async function runAttacks(run: AttacksRun): Promise<readonly Figure[]> {
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
