/** `npm run drill -- R9`: promise R9 on this machine, on an embedded PostgreSQL of its own. Linux; needs as many descriptors as sockets (`ulimit -n`). */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { runSockets } from './run.ts'

export const socketsDrill = defineDrill({
  name: 'R9',
  promise:
    'thousands of sockets that say next to nothing are closed in time, and honest phones hardly notice',
  options: {
    slow: { standard: 5_000, what: 'sockets that send a byte of a head each second' },
    half: { standard: 500, what: 'sockets that stop within a body' },
    readers: { standard: 200, what: 'sockets that take a byte of an APK each second' },
    aborts: { standard: 10_000, what: 'downloads that are reset at their first bytes' },
    burst: { standard: 10, what: 'of each kind opened at once, 1,000 a second' },
    kept: {
      standard: 2_000,
      what: 'honest connections that lie idle for up to 75 s, and are used then',
    },
    rounds: { standard: 9, what: 'waves of the first two, with quiet windows between them' },
    rate: { standard: 200, what: 'honest heartbeats a second' },
  },
  run: ({ slow, half, readers, aborts, burst, kept, rounds, rate }, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), ({ url }) =>
      runSockets({
        databaseUrl: url,
        dataDir: join(dir, 'data'),
        slow,
        half,
        readers,
        aborts,
        burst,
        kept,
        rounds,
        heartbeatsPerS: rate,
        print,
      }),
    ),
})
