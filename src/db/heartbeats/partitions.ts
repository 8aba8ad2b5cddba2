/**
 * The days of `heartbeats`: made ahead, dropped by retention, and a net emptied into its days, past ones too. Safe with
 * several replicas at once: one works, the others find nothing left to do.
 */
import { AppError } from '../../domain/errors.ts'
import { retryWhile } from '../../lib/timeouts.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { sqlstate } from '../postgres/sqlstate.ts'

export interface PartitionChanges {
  readonly created: readonly string[]
  readonly dropped: readonly string[]
  readonly failed: readonly { readonly partition: string; readonly error: string }[]
}

export interface Partitions {
  /** Makes the database's today, 7 days ahead and each day of which rows lie in the net; drops days older than the retention. */
  maintain(): Promise<PartitionChanges>
}

export const PARTITION_DAYS_AHEAD = 7
/** Any constant: serialises the replicas' maintenance. */
const LOCK_KEY = '7311860295'
/** Of a step that another session holds up, or whose day got a row in the net meanwhile. */
const STEP_TRIES = 5
/** Rows past the retention deleted from the net at once. */
const CLEAR_BATCH = 10_000

/** Waits: two replicas that skip what the other is at would each leave days to the other. */
const LOCK = /* sql */ `select pg_advisory_xact_lock(${LOCK_KEY})`
const SHORT_LOCK_TIMEOUT = /* sql */ `set local lock_timeout = '200ms'`

const EXISTING = /* sql */ `
  select c.relname as "partition"
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'heartbeats'::regclass and c.relname ~ '^heartbeats_[0-9]{8}$'
  order by 1`

/** Days as yyyymmdd by the database's clock: no replica's own decides what is dropped. */
const WANTED = /* sql */ `
  with today as (select (now() at time zone 'UTC')::date + $3::int as d)
  select to_char(d + n, 'YYYYMMDD') as "day" from today, generate_series(0, $1::int) n
  union
  select to_char(bucket at time zone 'UTC', 'YYYYMMDD') from heartbeats_default, today
  where bucket >= (d - $2::int)::timestamp at time zone 'UTC'
  order by 1`

const OLDEST_KEPT = /* sql */ `
  select to_char((now() at time zone 'UTC')::date + $2::int - $1::int, 'YYYYMMDD') as "day"`

const CLEAR_DEFAULT = /* sql */ `
  delete from heartbeats_default where ctid = any (array(
    select ctid from heartbeats_default
    where bucket < ((now() at time zone 'UTC')::date + $2::int - $1::int)::timestamp at time zone 'UTC'
    limit ${CLEAR_BATCH} for update skip locked))`

export interface PartitionOptions {
  readonly retentionDays: number
  /** Days added to the database's clock: drills race through months. */
  readonly shiftDays?: () => number
}

export function partitions(database: Database, options: PartitionOptions): Partitions {
  return {
    async maintain() {
      const { retentionDays } = options
      const shiftDays = options.shiftDays?.() ?? 0
      const { rows: wanted } = await database.query<{ day: string }>({
        name: 'partitions.wanted',
        text: WANTED,
        values: [PARTITION_DAYS_AHEAD, retentionDays, shiftDays],
      })
      const { rows: kept } = await database.query<{ day: string }>({
        name: 'partitions.oldest_kept',
        text: OLDEST_KEPT,
        values: [retentionDays, shiftDays],
      })
      const existing = new Set(await existingPartitions(database))
      const oldest = `heartbeats_${kept[0]?.day ?? ''}`
      const missing = wanted.map(({ day }) => `heartbeats_${day}`).filter((p) => !existing.has(p))
      const expired = [...existing].filter((partition) => partition < oldest)
      await clearDefaultPartition(database, [retentionDays, shiftDays])

      const created = await attempt(missing, (partition) => create(database, partition))
      const dropped = await attempt(expired, (partition) => drop(database, partition))
      return {
        created: created.done,
        dropped: dropped.done,
        failed: [...created.failed, ...dropped.failed],
      }
    },
  }
}

/** One entry for each run of days that follow each other; `last` is null where that is one day. */
export function runsOfDays(
  partitions: readonly string[],
): readonly { readonly partition: string; readonly last: string | null }[] {
  const runs: { partition: string; last: string | null }[] = []
  for (const partition of partitions) {
    const run = runs.at(-1)
    const before = run && (run.last ?? run.partition)
    const isNext = before !== undefined && nextDay(dayOf(before)) === dayOf(partition)
    if (run !== undefined && isNext) run.last = partition
    else runs.push({ partition, last: null })
  }
  return runs
}

async function existingPartitions(database: Queryable): Promise<readonly string[]> {
  const { rows } = await database.query<{ partition: string }>({
    name: 'partitions.existing',
    text: EXISTING,
  })
  return rows.map((row) => row.partition)
}

/** Runs each step by itself, so that one day's trouble leaves the others done. */
async function attempt(names: readonly string[], step: (partition: string) => Promise<boolean>) {
  const done: string[] = []
  const failed: { partition: string; error: string }[] = []
  for (const partition of names) {
    try {
      if (await step(partition)) done.push(partition)
    } catch (error) {
      failed.push({ partition, error: error instanceof Error ? error.message : String(error) })
    }
  }
  return { done, failed }
}

/** What lies in the net beyond the retention goes as its day would have gone. */
async function clearDefaultPartition(
  database: Queryable,
  values: readonly number[],
): Promise<void> {
  for (;;) {
    const query = { name: 'partitions.clear_net', text: CLEAR_DEFAULT, values }
    if ((await database.query(query)).rowCount < CLEAR_BATCH) return
  }
}

/**
 * Rows of that day which fell into the net are moved in the same transaction; while there are any, the net is closed:
 * a heartbeat that came between would keep the day from being attached. False: another replica made it.
 */
function create(database: Database, partition: string): Promise<boolean> {
  const from = dayOf(partition)
  // No "+ interval '1 day'": that is 23 or 25 hours where the session's time zone changes its clock.
  const [first, end] = [`'${from} 00:00:00+00'`, `'${nextDay(from)} 00:00:00+00'`]
  const isOfDay = `bucket >= ${first} and bucket < ${end}`
  return withLockRetries(database, async (tx) => {
    if ((await existingPartitions(tx)).includes(partition)) return false
    const run = (text: string) => tx.query({ name: '', text })
    await run(SHORT_LOCK_TIMEOUT)
    await run(`create table ${partition} (like heartbeats including all)`)
    const fallen = await run(`select from heartbeats_default where ${isOfDay} limit 1`)
    if (fallen.rowCount > 0) {
      await run('lock table heartbeats_default in access exclusive mode')
      await run(`with moved as (delete from heartbeats_default where ${isOfDay} returning *)
        insert into ${partition} select * from moved`)
    }
    await run(`alter table heartbeats attach partition ${partition}
      for values from (${first}) to (${end})`)
    return true
  })
}

/** False: gone already. */
function drop(database: Database, partition: string): Promise<boolean> {
  return withLockRetries(database, async (tx) => {
    if (!(await existingPartitions(tx)).includes(partition)) return false
    await tx.query({ name: '', text: SHORT_LOCK_TIMEOUT })
    await tx.query({ name: '', text: `drop table ${partition}` })
    return true
  })
}

/**
 * A table lock waits for readers and blocks every later query behind it: so it waits briefly, several times. 23514: a
 * row of the day came into the net since it was looked for.
 */
function withLockRetries(
  database: Database,
  work: (tx: Queryable) => Promise<boolean>,
): Promise<boolean> {
  return retryWhile(
    () => inTurn(database, work),
    (error, tries) => {
      const state = sqlstate(error instanceof AppError ? error.cause : error) ?? ''
      return ['55P03', '23514'].includes(state) && tries < STEP_TRIES ? 0 : undefined
    },
  )
}

function inTurn<T>(database: Database, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return database.transaction(async (tx) => {
    await tx.query({ name: 'partitions.lock', text: LOCK })
    return work(tx)
  })
}

function dayOf(partition: string): string {
  return partition.replace(/^heartbeats_(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3')
}

function nextDay(day: string): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + 86_400_000).toISOString().slice(0, 10)
}
