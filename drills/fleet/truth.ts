/** `npm run drill -- R12`: promise R12 on this machine, on an embedded PostgreSQL of its own. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { runTruth } from './truth-run.ts'

export const truthDrill = defineDrill({
  name: 'R12',
  promise:
    'counters equal ground truth exactly after a simulation, as a real Prometheus has scraped them with a bearer token',
  options: {
    devices: { standard: 100, what: 'phones' },
    heartbeats: { standard: 20, what: 'acknowledged of each phone' },
    interval: { standard: 2, what: 'seconds between them' },
    commands: { standard: 500, what: 'in all' },
  },
  run: ({ devices, heartbeats, interval, commands }, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), ({ url }) =>
      runTruth({
        databaseUrl: url,
        dir,
        simulate: [
          ...['--devices', `${devices}`, '--heartbeats', `${heartbeats}`],
          ...['--interval', `${interval}`, '--commands', `${commands}`],
          ...['--commands-per-minute', '1200', '--late-by', '5', '--apk-share', '0.5'],
        ],
        print,
      }),
    ),
})
