/** `npm run drill -- R6`: promise R6 on this machine, on an embedded PostgreSQL of its own. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { runFcmDown } from './run.ts'

const REFUSAL_SHARE = 1 / 20

export const fcmDownDrill = defineDrill({
  name: 'R6',
  promise: 'FCM dead: heartbeats do not suffer, at most 64 sockets, no push token cleared',
  options: {
    minutes: {
      standard: 10,
      what: 'with FCM dead: half hanging, half refusing connections; alive half as long beside them',
    },
    windows: { standard: 9, what: 'interleaved windows of each kind, for p99' },
    rate: { standard: 500, what: 'heartbeats a second' },
    commands: { standard: 20, what: 'commands a second' },
  },
  run: ({ minutes, windows, rate, commands }, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), ({ url }) =>
      runFcmDown({
        databaseUrl: url,
        dataDir: join(dir, 'data'),
        deadS: 60 * minutes,
        windows,
        heartbeatsPerS: rate,
        commandsPerS: commands,
        refusalS: 60 * minutes * REFUSAL_SHARE,
        print,
      }),
    ),
})
