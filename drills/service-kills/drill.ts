/** `npm run drill -- R1`: promise R1 on this machine, on an embedded PostgreSQL of its own. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { seededRandom } from '../../testkit/random.ts'
import { defineDrill } from '../drill.ts'
import { runServiceKills } from './run.ts'

export const serviceKillsDrill = defineDrill({
  name: 'R1',
  promise:
    'kill -9 of the service under load, at random and at each failpoint: 0 acknowledged heartbeats, commands or results missing, ready again within 2 s',
  options: {
    kills: { standard: 50, what: 'at random moments' },
    failpoints: { standard: 50, what: 'at each of the six named failpoints' },
    rate: { standard: 200, what: 'heartbeats a second' },
    commands: { standard: 10, what: 'commands a second' },
    seed: { standard: 1, what: 'of the order of deaths; what the machine does between is chance' },
  },
  run: ({ kills, failpoints, rate, commands, seed }, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), ({ url }) =>
      runServiceKills({
        databaseUrl: url,
        dataDir: join(dir, 'data'),
        randomKills: kills,
        failpointKills: failpoints,
        heartbeatsPerS: rate,
        commandsPerS: commands,
        leaseCutS: null,
        random: seededRandom(seed),
        print,
      }),
    ),
})
