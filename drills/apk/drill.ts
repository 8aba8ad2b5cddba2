/** `npm run drill -- apk`: APKs in a row, cut off and killed, on an embedded PostgreSQL of its own. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { seededRandom } from '../../testkit/random.ts'
import { defineDrill } from '../drill.ts'
import { runApks } from './run.ts'

const MB = 1_000_000

export const apkDrill = defineDrill({
  name: 'apk',
  promise:
    'uploads in a row, some cut off or killed, while phones pull: memory flat, every build whole or absent',
  options: {
    uploads: { standard: 50, what: 'in a row' },
    min: { standard: 10, what: 'size of one, million bytes' },
    max: { standard: 50, what: 'size of one, million bytes' },
    cuts: { standard: 10, what: 'uploads that break off, and as many kills within one' },
    phones: { standard: 10, what: 'that pull the latest meanwhile' },
    seed: { standard: 1, what: 'of the sizes' },
  },
  run: ({ uploads, min, max, cuts, phones, seed }, { dir, print }) =>
    withPostgres(join(dir, 'postgres'), ({ url }) =>
      runApks({
        databaseUrl: url,
        dir,
        uploads,
        minBytes: MB * min,
        maxBytes: MB * max,
        cuts,
        phones,
        random: seededRandom(seed),
        print,
      }),
    ),
})
