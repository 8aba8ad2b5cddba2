/**
 * The days of `heartbeats`: made ahead, dropped by retention, and a net emptied into its day. Safe with
 * several replicas at once: one works, the others find nothing left to do.
 */
import { AppError } from '../core/errors.ts'
import type { Database, Queryable } from './pool.ts'
import { sqlstate } from './sqlstate.ts'

export interface PartitionChanges {
  readonly created: readonly string[]
  readonly dropped: readonly string[]
  readonly failed: readonly { readonly partition: string; readonly error: string }[]
}

export interface Partitions {
  /** Makes the database's today and 7 days ahead, drops whole days older than the retention. */
  maintain(): Promise<PartitionChanges>
}

export const PARTITION_DAYS_AHEAD = 7
/** Any constant: serialises the replicas' maintenance. */
const LOCK_KEY = '7311860295'
const DROP_TRIES = 5

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
  select to_char(d, 'YYYYMMDD') as "day"
  from generate_series(0, $1::int) n, lateral (select (now() at time zone 'UTC')::date + n) as t(d)`

const OLDEST_KEPT = /* sql */ `
  select to_char((now() at time zone 'UTC')::date - $1::int, 'YYYYMMDD') as "day"`

export function partitions(
  database: Database,
  options: { readonly retentionDays: number },
): Partitions {
  return {
    async maintain() {
      const { rows: wanted } = await database.query<{ day: string }>({
        name: 'partitions.wanted',
        text: WANTED,
        values: [PARTITION_DAYS_AHEAD],
      })
      const { rows: kept } = await database.query<{ day: string }>({
        name: 'partitions.oldest_kept',
        text: OLDEST_KEPT,
        values: [options.retentionDays],
      })
      const existing = new Set(await existingPartitions(database))
      const oldest = `heartbeats_${kept[0]?.day ?? ''}`
      const missing = wanted.map(({ day }) => `heartbeats_${day}`).filter((p) => !existing.has(p))
      const expired = [...existing].filter((partition) => partition < oldest)

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

/** Rows of that day which fell into the net are moved in the same transaction. False: another replica made it. */
function create(database: Database, partition: string): Promise<boolean> {
  const from = `${partition.slice(11, 15)}-${partition.slice(15, 17)}-${partition.slice(17, 19)}`
  const range = `'${from} 00:00:00+00'::timestamptz`
  return inTurn(database, async (tx) => {
    if ((await existingPartitions(tx)).includes(partition)) return false
    const steps = [
      `create table ${partition} (like heartbeats including all)`,
      `with moved as (
         delete from heartbeats_default
         where bucket >= ${range} and bucket < ${range} + interval '1 day' returning *)
       insert into ${partition} select * from moved`,
      `alter table heartbeats attach partition ${partition}
         for values from ('${from} 00:00:00+00') to ('${nextDay(from)} 00:00:00+00')`,
    ]
    for (const text of steps) await tx.query({ name: '', text })
    return true
  })
}

/** A DROP waits for readers and blocks every later query behind it: so it waits briefly, several times. False: gone already. */
async function drop(database: Database, partition: string): Promise<boolean> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await inTurn(database, async (tx) => {
        if (!(await existingPartitions(tx)).includes(partition)) return false
        await tx.query({ name: '', text: SHORT_LOCK_TIMEOUT })
        await tx.query({ name: '', text: `drop table ${partition}` })
        return true
      })
    } catch (error) {
      const isLocked = error instanceof AppError && sqlstate(error.cause) === '55P03'
      if (!isLocked || tries === DROP_TRIES) throw error
    }
  }
}

function inTurn<T>(database: Database, work: (tx: Queryable) => Promise<T>): Promise<T> {
  return database.transaction(async (tx) => {
    await tx.query({ name: 'partitions.lock', text: LOCK })
    return work(tx)
  })
}

function nextDay(day: string): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + 86_400_000).toISOString().slice(0, 10)
}
