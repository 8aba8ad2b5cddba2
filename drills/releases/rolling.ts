/** `npm run drill -- R10`: promise R10 on this machine, on an embedded PostgreSQL of its own. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { runRolling } from './rolling-run.ts'

export const rollingDrill = defineDrill({
  name: 'R10',
  promise:
    'rolling SIGTERMs behind a balancer that learns only from /readyz once a second: 0 failed requests, exit within the grace',
  options: {
    terms: { standard: 100, what: 'SIGTERMs, to two replicas in turn' },
    rate: { standard: 500, what: 'requests a second: heartbeats, commands, results, reads' },
    'drain-ms': { standard: 5_000, what: 'SHUTDOWN_DRAIN_MS' },
    'stuck-every': {
      standard: 20,
      what: 'at every so-manieth, silent and half-sent sockets are open',
    },
  },
  run: ({ terms, rate, 'drain-ms': drainMs, 'stuck-every': stuckEvery }, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), ({ url }) =>
      runRolling({
        databaseUrl: url,
        dataDir: join(dir, 'data'),
        terms,
        ratePerS: rate,
        drainMs,
        stuckEvery,
        print,
      }),
    ),
})
