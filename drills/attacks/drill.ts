/** `npm run drill -- attacks`: promise R13 on this machine, on an embedded PostgreSQL of its own. Linux. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill, UsageError } from '../drill.ts'
import { FULL, SHORT } from './length.ts'
import { ROWS, runAttacks } from './run.ts'

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
  run: ({ rows, short, rounds, heap, minutes }, { dir, print }) => {
    const chosen = rows === 'all' ? undefined : new Set(rows.split(',').map(Number))
    const unknown = [...(chosen ?? [])].filter((row) => !ROWS.has(row))
    if (unknown.length > 0) throw new UsageError(`--rows has no row ${unknown.join(', ')}`)
    if (rounds < 1) throw new UsageError('--rounds is a number from 1')
    return withPostgres(join(dir, 'postgres'), ({ url }) =>
      runAttacks({
        databaseUrl: url,
        dir,
        rows: chosen,
        length: short ? SHORT : { ...FULL, rounds },
        heap: heap === 0 ? undefined : { mib: heap, minutes },
        print,
      }),
    )
  },
})
