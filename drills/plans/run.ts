/** `npm run drill -- plans`: fills a small installation and a large one, and compares what each statement reads on both. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import { migrate, readMigrations } from '../../src/db/schema/migrate.ts'
import { explained, type PlanMode, plainDatabase } from '../../testkit/database/explain.ts'
import { withClient, withPostgres } from '../../testkit/database/postgres.ts'
import { defineDrill, type Figure } from '../drill.ts'
import { fill, tune } from './fill.ts'
import { explainHeld } from './held.ts'
import { type Installation, installationOf, LARGEST, NOTHING } from './installation.ts'
import { timeRequests } from './requests.ts'
import { statementsOf } from './statements/all.ts'
import { faultsOf, mostPagesOf, pagesOf, rowsOf } from './statements/statement.ts'

interface PlansOptions {
  readonly devices: number
  readonly requests: number
  readonly dataDir: string
  readonly dir: string
  readonly print: (line: string) => void
}

const SMALL_DEVICES = 1_000
/** Added to the large one: a campaign, and commands that expired all at once. */
const CAMPAIGN = { due: 200_000, unswept: 100_000 }

/** What one statement read in one mode. */
interface Cost {
  readonly pages: number
  readonly rows: number
  readonly faults: readonly string[]
}

type Costs = ReadonlyMap<string, Cost>

export const plansDrill = defineDrill({
  name: 'plans',
  promise: 'however much has been done, each statement reads no more than it has to',
  options: {
    devices: { standard: 30_000, what: 'of the large installation; all else in proportion' },
    requests: { standard: 0, what: 'instead: so many of each admin GET, timed on both' },
    held: { standard: false, what: 'instead: claim and sweep while a pg_dump holds a snapshot' },
    minutes: { standard: 10, what: 'with --held: how long, at 300 commands a second' },
    keep: { standard: '', what: 'directory in which the installations stay, to be used again' },
  },
  run({ keep, held, minutes, ...options }, { dir, print }) {
    if (held) return runHeld(join(dir, 'postgres'), minutes, print)
    if (keep !== '') mkdirSync(keep, { recursive: true })
    return runPlans({ ...options, dataDir: keep || join(dir, 'postgres'), dir, print })
  },
})

function runHeld(
  dataDir: string,
  minutes: number,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  return withPostgres(dataDir, async ({ url }) => {
    await migrate(url, readMigrations())
    return withClient(url, (db) => explainHeld(url, db, minutes * 60, print))
  })
}

function runPlans(options: PlansOptions): Promise<readonly Figure[]> {
  return withPostgres(options.dataDir, async (postgres) => {
    await tune(postgres)
    const { print } = options
    const small = installationOf(SMALL_DEVICES)
    const large = installationOf(options.devices)
    const share = options.devices / LARGEST
    const busy = {
      ...large,
      due: Math.round(CAMPAIGN.due * share),
      unswept: Math.round(CAMPAIGN.unswept * share),
    }
    const smallUrl = await fill(postgres.url, { name: 'small', from: NOTHING, to: small, print })
    const largeUrl = await fill(postgres.url, { name: 'large', from: NOTHING, to: large, print })
    const fillBusy = () => fill(postgres.url, { name: 'large', from: large, to: busy, print })
    if (options.requests > 0) {
      await fillBusy()
      return timeRequests({ small: smallUrl, large: largeUrl }, options)
    }
    const onSmall = await withClient(smallUrl, (db) => costsOf(db, small))
    const onLarge = await withClient(largeUrl, (db) => costsOf(db, large))
    await fillBusy()
    const onBusy = await withClient(largeUrl, (db) => costsOf(db, busy))
    return compared(busy, [onSmall, onLarge, onBusy], print)
  })
}

/** By title and mode. */
async function costsOf(db: pg.Client, installation: Installation): Promise<Costs> {
  const costs = new Map<string, Cost>()
  for (const statement of statementsOf(installation)) {
    const after = (await statement.cursor?.(plainDatabase(db))) ?? null
    for (const mode of statement.modes) {
      const plans = await explained(db, mode, (database) => statement.run(database, after))
      costs.set(keyOf(statement.title, mode), {
        pages: pagesOf(plans),
        rows: rowsOf(plans),
        faults: faultsOf(statement, plans),
      })
    }
  }
  return costs
}

const keyOf = (title: string, mode: PlanMode) => `${title} (${mode})`

/** Only the plans of the large installations must be within their bounds. */
function compared(
  installation: Installation,
  [small, large, busy]: readonly [Costs, Costs, Costs],
  print: (line: string) => void,
): readonly Figure[] {
  print('\n| pages touched, the worse plan | small | large | and a campaign | at most |')
  print('| --- | --- | --- | --- | --- |')
  return statementsOf(installation).flatMap((statement) => {
    const keys = statement.modes.map((mode) => keyOf(statement.title, mode))
    const worst = (costs: Costs) => Math.max(...keys.map((key) => costs.get(key)?.pages ?? 0))
    const most = mostPagesOf(statement)
    print(`| ${statement.title} | ${[small, large, busy].map(worst).join(' | ')} | ${most} |`)
    return keys.map((key) => {
      const faults = [large, busy].flatMap((costs) => costs.get(key)?.faults ?? ['not explained'])
      const [one, two, three] = [small, large, busy].map((costs) => costs.get(key))
      const pages = `${one?.pages} → ${two?.pages} → ${three?.pages} pages of ${most}`
      const rows = `${one?.rows} → ${two?.rows} → ${three?.rows} rows of ${statement.mostRows}`
      return {
        promise: key,
        measured: [`${pages}, ${rows}`, ...faults].join('\n        '),
        isHeld: faults.length === 0,
      }
    })
  })
}
