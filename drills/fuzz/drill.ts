/** `npm run fuzz`: promise R8 on this machine, against the built service on an embedded PostgreSQL of its own. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { fuzzService } from './service.ts'

export const fuzzDrill = defineDrill({
  name: 'R8',
  promise:
    'whatever comes, no 5xx: a well-formed answer or a closed connection, valid JSON lines, constant series, no SQL error of class 22',
  options: {
    requests: { standard: 1_000_000, what: 'in all' },
    seed: {
      standard: 1,
      what: 'another one makes other requests; the same, but for tokens and ids',
    },
    connections: { standard: 64, what: 'at once' },
  },
  run: (options, { dir, print }) => {
    const dataDir = join(dir, 'postgres')
    return withPostgres(dataDir, ({ url }) =>
      fuzzService({
        ...options,
        databaseUrl: url,
        databaseLog: join(dataDir, 'postgres.log'),
        dataDir: join(dir, 'data'),
        print,
      }),
    )
  },
})
