/** `npm run drill -- return`: the database goes away, phones are refused meanwhile, and all come back within a short time. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { runReturn } from './return-run.ts'

export const returnDrill = defineDrill({
  name: 'return',
  promise:
    'phones come back after an outage of the database: nothing lost that was acknowledged, no 401',
  options: {
    devices: { standard: 10_000, what: 'phones, two heartbeats each' },
    outage: { standard: 10, what: 'seconds without a database, in which each is refused once' },
    return: { standard: 30, what: 'seconds within which all come back' },
  },
  run: (options, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), (postgres) =>
      runReturn({
        postgres,
        dataDir: join(dir, 'data'),
        devices: options.devices,
        outageS: options.outage,
        returnS: options.return,
        print,
      }),
    ),
})
