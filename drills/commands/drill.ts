/** `npm run drill -- R5`: promise R5 on this machine, on an embedded PostgreSQL of its own. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { seededRandom } from '../../testkit/random.ts'
import { defineDrill } from '../drill.ts'
import { runCommands } from './run.ts'

const DARK_SHARE = 0.02
const HEARTBEAT_INTERVAL_S = 5

export const commandsDrill = defineDrill({
  name: 'R5',
  promise:
    'commands through a hostile FCM while either of two replicas is killed: none lost, none run twice, none sent too soon',
  options: {
    commands: { standard: 10_000, what: 'created while replicas are killed' },
    kills: { standard: 20, what: 'SIGKILLs, to either of two replicas' },
    devices: { standard: 200, what: 'phones; one in 50 is never reached' },
    rate: { standard: 100, what: 'commands a second' },
    seed: {
      standard: 1,
      what: "of the kills and of FCM's answers; what the machine does between them is chance",
    },
  },
  run: ({ commands, kills, devices, rate, seed }, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), ({ url }) =>
      runCommands({
        databaseUrl: url,
        dataDir: join(dir, 'data'),
        commands,
        kills,
        devices,
        darkDevices: Math.floor(devices * DARK_SHARE),
        ratePerS: rate,
        heartbeatIntervalS: HEARTBEAT_INTERVAL_S,
        leaseCutS: null,
        random: seededRandom(seed),
        print,
      }),
    ),
})
