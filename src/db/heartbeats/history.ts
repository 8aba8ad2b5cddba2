/**
 * Reads the stored heartbeats of one device, newest first, a stretch of time after the other until the page is full.
 *
 * The primary key begins with the bucket, since an index that begins with the device costs each heartbeat its own page of
 * WAL. So only days that are over have an index by device (partitions.ts). In another day each of its buckets is looked up
 * in the primary key, at most 360 an hour with a window of 10 s. Without a window (HEARTBEAT_DEDUP_WINDOW_S=0) a day has as
 * many buckets as groups of heartbeats, and that takes as long. What is in the DEFAULT partition is found once it is in its
 * day, within the hour.
 */
import {
  type LastStatus,
  STATUS_FIELDS,
  STATUS_NAMES,
  type StatusName,
} from '../../domain/heartbeat.ts'
import type { TimeRange } from '../../domain/instants.ts'
import { type ListPage, timeText } from '../list-page.ts'
import type { Database } from '../postgres/pool.ts'
import { sqlstate } from '../postgres/sqlstate.ts'
import { DEVICE_INDEX, nextDay, PARTITION_DAY } from './partitions.ts'

/** As pg returns them: bigint is a string. */
export type StatusRow = { readonly [N in StatusName]: LastStatus[N] | string }

export interface HistoryRow extends StatusRow {
  readonly bucket: string
  readonly seq: number
  readonly receivedAt: string
  /** By the phone's clock. */
  readonly reportedAt: string | null
  readonly requestId: string
}

export type NumberName = (typeof NUMBERS)[number]

export interface HistoryStep {
  readonly from: string
  readonly heartbeats: number
  /** null: no heartbeat of the step has the number. */
  readonly min: Readonly<Record<NumberName, number | null>>
  readonly max: Readonly<Record<NumberName, number | null>>
  readonly last: HistoryRow
}

export interface HistoryStore {
  read(deviceId: string, page: ListPage, filter: TimeRange): Promise<readonly HistoryRow[]>
  /** `stepS` divides a day. Steps without a heartbeat are left out. */
  steps(
    deviceId: string,
    page: ListPage,
    filter: TimeRange,
    stepS: number,
  ): Promise<readonly HistoryStep[]>
  /** Deletes all heartbeats of a device that sends no more. */
  erase(deviceId: string): Promise<void>
}

export const NUMBERS = ['batteryPct', 'uptimeS', 'tempC', 'signalDbm', 'ramUsedMb'] as const

/** Of a day without an index by device, one statement reads so much at a time, rounded up to whole steps. */
const SLICE_S = 3_600
const DAY_S = 86_400
const UNDEFINED_TABLE = '42P01'

/** A part of one day. */
interface Stretch {
  readonly partition: string
  readonly isIndexed: boolean
  readonly fromMs: number
  readonly toMs: number
}

interface Day {
  readonly partition: string
  readonly isIndexed: boolean
}

/** Up to tomorrow: a clock that was set back leaves heartbeats there. */
const DAYS = /* sql */ `
  select c.relname as "partition", exists (
      select from pg_index x join pg_class n on n.oid = x.indexrelid
      where x.indrelid = c.oid and n.relname = c.relname || '${DEVICE_INDEX}' and x.indisvalid) as "isIndexed"
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'heartbeats'::regclass and c.relname ~ '${PARTITION_DAY}'
    and c.relname <= 'heartbeats_' || to_char((now() at time zone 'UTC')::date + 1, 'YYYYMMDD')
  order by 1 desc`

const COLUMNS = /* sql */ `
  ${timeText('h.bucket')} as "bucket", h.seq as "seq", ${timeText('h.received_at')} as "receivedAt",
  ${timeText('h.reported_at')} as "reportedAt", h.request_id as "requestId",
  ${STATUS_NAMES.map((name) => `h.${STATUS_FIELDS[name].column} as "${name}"`).join(', ')}`

/** $1: the device, $2 and $3: the stretch, $4 and $5: since and until; null: no bound. */
const IN_TIME = /* sql */ `
  h.received_at >= coalesce($4::timestamptz, '-infinity') and h.received_at < coalesce($5::timestamptz, 'infinity')`
const IN_STRETCH = /* sql */ `h.bucket >= $2::timestamptz and h.bucket < $3::timestamptz`

/** Heartbeats of a stretch, as rows `h`; `partition` is a name from the catalog. */
const indexed = (partition: string) => /* sql */ `
  stored as materialized (
    select h.* from ${partition} h where h.device_id = $1 and ${IN_STRETCH} and ${IN_TIME})`
/** Steps from each bucket to the one before, whichever windows it had. */
const lookedUp = (partition: string) => /* sql */ `
  buckets as (
    (select h.bucket from ${partition} h where ${IN_STRETCH} order by h.bucket desc limit 1)
    union all
    select (
      select h.bucket from ${partition} h where h.bucket >= $2::timestamptz and h.bucket < b.bucket
      order by h.bucket desc limit 1)
    from buckets b where b.bucket is not null),
  stored as materialized (
    select h.* from buckets b cross join lateral (
      select * from ${partition} h where h.bucket = b.bucket and h.device_id = $1) h
    where ${IN_TIME})`
const storedOf = ({ partition, isIndexed }: Stretch) =>
  /* sql */ `with recursive ${isIndexed ? indexed(partition) : lookedUp(partition)}`

/** $6 and $7: the page's key; $8: rows. */
const rowsOf = (stretch: Stretch) => /* sql */ `
  ${storedOf(stretch)}
  select ${COLUMNS} from stored h
  where (h.bucket, h.seq) < (coalesce($6::timestamptz, 'infinity'), coalesce($7::int, 0))
  order by h.bucket desc, h.seq desc limit $8`

/** $6: the page's key; $7: the step's length, $8: steps. Each stretch begins with a step. */
const extremes = (which: 'min' | 'max') =>
  NUMBERS.map((name) => `'${name}', ${which}(h.${STATUS_FIELDS[name].column})`).join(', ')
const stepsOf = (stretch: Stretch) => /* sql */ `
  ${storedOf(stretch)},
  binned as (
    select date_bin(make_interval(secs => $7::int), h.bucket, $2::timestamptz) as step, h.* from stored h
    where h.bucket < coalesce($6::timestamptz, 'infinity')),
  steps as (
    select step, count(*)::int as heartbeats, jsonb_build_object(${extremes('min')}) as min,
      jsonb_build_object(${extremes('max')}) as max
    from binned h group by step order by step desc limit $8),
  last as (select distinct on (step) * from binned order by step, bucket desc, seq desc)
  select ${timeText('s.step')} as "from", s.heartbeats as "heartbeats", s.min as "min", s.max as "max", ${COLUMNS}
  from steps s join last h using (step) order by s.step desc`

const eraseIn = (stretch: Stretch) => /* sql */ `
  ${storedOf(stretch)}
  delete from ${stretch.partition} h using stored s
  where h.bucket = s.bucket and h.device_id = s.device_id and h.seq = s.seq`
/** What is not in its day yet. */
const ERASE_DEFAULT = /* sql */ `delete from heartbeats_default where device_id = $1`

/** `dedupWindowS`: a heartbeat may have been received so much later than its bucket began. */
export function historyStore(database: Database, dedupWindowS: number): HistoryStore {
  return {
    read(deviceId, page, filter) {
      const { after } = page
      return readStretches<HistoryRow>(page, filter, SLICE_S, (stretch, left) => ({
        text: rowsOf(stretch),
        values: [deviceId, ...timesOf(stretch, filter), after?.at ?? null, after?.id ?? null, left],
      }))
    },

    async steps(deviceId, page, filter, stepS) {
      const sliceS = Math.ceil(SLICE_S / stepS) * stepS
      const rows = await readStretches<StepRow>(page, filter, sliceS, (stretch, left) => ({
        text: stepsOf(stretch),
        values: [deviceId, ...timesOf(stretch, filter), page.after?.at ?? null, stepS, left],
      }))
      return rows.map(({ from, heartbeats, min, max, ...last }) => ({
        from,
        heartbeats,
        min,
        max,
        last,
      }))
    },

    async erase(deviceId) {
      for (const stretch of stretchesOf(await daysOf(), SLICE_S)) {
        await rowsIn(eraseIn(stretch), [
          deviceId,
          ...timesOf(stretch, { since: null, until: null }),
        ])
      }
      const query = { name: 'heartbeats.erase_default', text: ERASE_DEFAULT, values: [deviceId] }
      await database.query(query)
    },
  }

  async function daysOf(): Promise<readonly Day[]> {
    return (await database.query<Day>({ name: 'heartbeats.days', text: DAYS })).rows
  }

  async function readStretches<Row extends object>(
    { limit, after }: ListPage,
    { since, until }: TimeRange,
    sliceS: number,
    statement: (stretch: Stretch, left: number) => { text: string; values: readonly unknown[] },
  ): Promise<readonly Row[]> {
    const firstMs =
      since === null ? Number.NEGATIVE_INFINITY : Date.parse(since) - dedupWindowS * 1_000
    // Date.parse cuts to milliseconds.
    const ends = [until, after?.at].flatMap((end) => (end ? [Date.parse(end) + 1] : []))
    const lastMs = Math.min(...ends)
    const read: Row[] = []
    for (const stretch of stretchesOf(await daysOf(), sliceS)) {
      if (read.length >= limit || stretch.toMs <= firstMs) break
      if (stretch.fromMs >= lastMs) continue
      const { text, values } = statement(stretch, limit - read.length)
      read.push(...(await rowsIn<Row>(text, values)))
    }
    return read
  }

  /** None where the day was dropped meanwhile. */
  async function rowsIn<Row extends object>(text: string, values: readonly unknown[]) {
    try {
      const query = { name: 'heartbeats.history', isVarying: true, text, values } as const
      return (await database.query<Row>(query)).rows
    } catch (error) {
      if (sqlstate(error) === UNDEFINED_TABLE) return []
      throw error
    }
  }
}

interface StepRow extends HistoryRow, Omit<HistoryStep, 'last'> {}

/** Newest first; days of an index by device as a whole. */
function* stretchesOf(days: readonly Day[], sliceS: number): Generator<Stretch> {
  for (const { partition, isIndexed } of days) {
    const date = partition.replace(/^heartbeats_(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3')
    const [dayMs, endMs] = [date, nextDay(date)].map((day) => Date.parse(`${day}T00:00:00Z`))
    if (dayMs === undefined || endMs === undefined) continue
    const lengthMs = (isIndexed ? DAY_S : sliceS) * 1_000
    const count = Math.ceil((endMs - dayMs) / lengthMs)
    for (let n = count - 1; n >= 0; n -= 1) {
      const fromMs = dayMs + n * lengthMs
      yield { partition, isIndexed, fromMs, toMs: Math.min(fromMs + lengthMs, endMs) }
    }
  }
}

function timesOf({ fromMs, toMs }: Stretch, { since, until }: TimeRange): readonly unknown[] {
  return [new Date(fromMs), new Date(toMs), since, until]
}
