/**
 * Maintains the daily partitions of `heartbeats`: creates days ahead, drops days past the retention, indexes days that are
 * over, and moves rows out of the DEFAULT partition into their days. Several replicas may do it at once: one works, the others find nothing left to do.
 */
import { AppError } from '../../domain/errors.ts'
import { retryWhile } from '../../lib/timeouts.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { prolong } from '../postgres/share.ts'
import { sqlstate } from '../postgres/sqlstate.ts'

export interface PartitionChanges {
  readonly created: readonly string[]
  readonly dropped: readonly string[]
  readonly failed: readonly { readonly partition: string; readonly error: string }[]
}

export interface Partitions {
  /**
   * Creates today, 7 days ahead and every day that has rows in the DEFAULT partition; drops days past the retention;
   * indexes days that are over by device.
   */
  maintain(): Promise<PartitionChanges>
}

const PARTITION_DAYS_AHEAD = 7
/** An arbitrary constant: serializes the replicas' maintenance. */
const LOCK_KEY = '7311860295'
/** Tries of a step that another session blocks, or whose day gets a row in the DEFAULT partition meanwhile. */
const STEP_TRIES = 5
/** Build of a day's index: 0.65 s for a million heartbeats on an idle server with all in memory. */
const INDEX_TIMEOUT_MS = 3_600_000
/** Rows past the retention that one statement deletes from the DEFAULT partition. */
const CLEAR_BATCH = 10_000

/** Waits: if replicas skipped what another one works on, each could leave days to the other. */
const LOCK = /* sql */ `select pg_advisory_xact_lock(${LOCK_KEY})`
/** Of its own, since an index may take minutes: other replicas leave it to this one, and go on with their days. */
const TRY_INDEX_LOCK = /* sql */ `select pg_try_advisory_xact_lock(${LOCK_KEY} + 1) as "isOurs"`
const SHORT_LOCK_TIMEOUT = /* sql */ `set local lock_timeout = '200ms'`

/** Names of the partitions of days. */
export const PARTITION_DAY = '^heartbeats_[0-9]{8}$'
/** Ends the name of a day's index by device. */
export const DEVICE_INDEX = '_device'

const EXISTING = /* sql */ `
  select c.relname as "partition"
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'heartbeats'::regclass and c.relname ~ '${PARTITION_DAY}'
  order by 1`

/** Days that have been over for ten minutes and have no index by device yet. Nothing is written to them any more. $1: shiftDays. */
export const UNINDEXED = /* sql */ `
  select c.relname as "partition"
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'heartbeats'::regclass and c.relname ~ '${PARTITION_DAY}'
    and c.relname < 'heartbeats_' || to_char((now() - interval '10 min') at time zone 'UTC' + $1 * interval '1 d', 'YYYYMMDD')
    and not exists (
      select from pg_index x join pg_class n on n.oid = x.indexrelid
      where x.indrelid = c.oid and n.relname = c.relname || '${DEVICE_INDEX}')
  order by 1 desc`

/** Days as yyyymmdd by the database's clock, so that no replica's clock decides what is dropped. */
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
  /** Days added to the database's clock, for drills. */
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
      const { rows: unindexed } = await database.query<{ partition: string }>({
        name: 'partitions.unindexed',
        text: UNINDEXED,
        values: [shiftDays],
      })
      const over = unindexed.map(({ partition }) => partition)
      const indexed = await attempt(over, (partition) => index(database, partition))
      return {
        created: created.done,
        dropped: dropped.done,
        failed: [...created.failed, ...dropped.failed, ...indexed.failed],
      }
    },
  }
}

/** One entry for each run of consecutive days; `last` is null for a single day. */
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

/** Runs the steps one by one; if a day fails, the others are still done. */
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

/** Deletes rows past the retention, which were never in a day's partition. */
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
 * Creates a day and moves its rows from the DEFAULT partition in the same transaction. If there are such rows, the DEFAULT
 * partition is locked: a row inserted meanwhile would prevent the attach. False: another replica created the day.
 */
function create(database: Database, partition: string): Promise<boolean> {
  const from = dayOf(partition)
  // Not "+ interval '1 day'": that is 23 or 25 hours when the session's time zone changes its clock.
  const [first, end] = [`'${from} 00:00:00+00'`, `'${nextDay(from)} 00:00:00+00'`]
  const isOfDay = `bucket >= ${first} and bucket < ${end}`
  return withMaintenanceLock(database, async (tx) => {
    if ((await existingPartitions(tx)).includes(partition)) return false
    const run = (text: string) => tx.query({ name: '', text })
    await run(SHORT_LOCK_TIMEOUT)
    await run(`create table ${partition} (like heartbeats including all)`)
    const strays = await run(`select from heartbeats_default where ${isOfDay} limit 1`)
    if (strays.rowCount > 0) {
      await run('lock table heartbeats_default in access exclusive mode')
      await run(`with moved as (delete from heartbeats_default where ${isOfDay} returning *)
        insert into ${partition} select * from moved`)
    }
    await run(`alter table heartbeats attach partition ${partition}
      for values from (${first}) to (${end})`)
    return true
  })
}

/** False: another replica dropped it. */
function drop(database: Database, partition: string): Promise<boolean> {
  return withMaintenanceLock(database, async (tx) => {
    if (!(await existingPartitions(tx)).includes(partition)) return false
    await tx.query({ name: '', text: SHORT_LOCK_TIMEOUT })
    await tx.query({ name: '', text: `drop table ${partition}` })
    return true
  })
}

/** For the history of one device (history.ts). Writes nothing else to that day, so that no heartbeat waits. */
function index(database: Database, partition: string): Promise<boolean> {
  const name = `${partition}${DEVICE_INDEX}`
  const text = `create index if not exists ${name} on ${partition} (device_id, bucket)`
  return retryLocks(() =>
    database.transaction(async (tx) => {
      const lock = { name: 'partitions.try_index_lock', text: TRY_INDEX_LOCK }
      const { rows } = await tx.query<{ isOurs: boolean }>(lock)
      if (rows[0]?.isOurs !== true) return false
      await tx.query({ name: '', text: SHORT_LOCK_TIMEOUT })
      await (await prolong(tx, INDEX_TIMEOUT_MS)).query({ name: '', text })
      return true
    }),
  )
}

function withMaintenanceLock(
  database: Database,
  work: (tx: Queryable) => Promise<boolean>,
): Promise<boolean> {
  return retryLocks(() =>
    database.transaction(async (tx) => {
      await tx.query({ name: 'partitions.lock', text: LOCK })
      return work(tx)
    }),
  )
}

/**
 * A waiting table lock blocks every later query, so it waits briefly and tries again. 23514: the DEFAULT partition got a row
 * of that day after the check.
 */
function retryLocks(work: () => Promise<boolean>): Promise<boolean> {
  return retryWhile(work, (error, tries) => {
    const state = sqlstate(error instanceof AppError ? error.cause : error) ?? ''
    return ['55P03', '23514'].includes(state) && tries < STEP_TRIES ? 0 : undefined
  })
}

function dayOf(partition: string): string {
  return partition.replace(/^heartbeats_(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3')
}

export function nextDay(day: string): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + 86_400_000).toISOString().slice(0, 10)
}
