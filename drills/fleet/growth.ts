/** `npm run drill -- growth`: phones while a mass of commands expires and another is sent, beside admins who look on. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { tune } from '../plans/fill.ts'
import { runGrowth } from './growth-run.ts'

export const growthDrill = defineDrill({
  name: 'growth',
  promise: 'phones hardly notice when masses of commands expire and are sent while admins look on',
  options: {
    devices: { standard: 30_000, what: 'with commands, audit rows and tokens in proportion' },
    expired: { standard: 100_000, what: 'commands whose time is over at once' },
    due: { standard: 200_000, what: 'commands that are due for push at the same moment' },
    rate: { standard: 300, what: 'heartbeats a second' },
    seconds: { standard: 40, what: 'of each window at least' },
    keep: { standard: '', what: 'directory in which the installation stays, to be used again' },
  },
  run({ keep, ...options }, { dir, print }) {
    if (keep !== '') mkdirSync(keep, { recursive: true })
    return withPostgres(keep || join(dir, 'postgres'), async (postgres) => {
      await tune(postgres)
      return runGrowth({ ...options, url: postgres.url, dataDir: join(dir, 'data'), print })
    })
  },
})
