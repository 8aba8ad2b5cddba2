/** What seven days of one phone take to read while a hundred million heartbeats are stored. */
import { setTimeout as wait } from 'node:timers/promises'
import type pg from 'pg'
import { DEVICE_INDEX, UNINDEXED } from '../src/db/heartbeats/partitions.ts'
import { seededDeviceId } from '../testkit/database/seeded-fleet.ts'
import { createSend } from '../testkit/http/client.ts'
import { median, quantile } from '../testkit/statistics.ts'
import type { BenchService } from './service.ts'

interface HistoryBench {
  readonly service: BenchService
  readonly db: pg.Client
  readonly devices: number
}

/** Of fleet.md, "Reads". */
const MUST_MS = 200
const READS = 100
const DAYS = 7
const DAY_MS = 86_400_000
const INDEX_TIMEOUT_MS = 3_600_000
/** A prime: the phones that are read are far apart. */
const STRIDE = 104_729

const INDEX_BYTES = /* sql */ `
  select coalesce(sum(pg_relation_size(oid)), 0)::float8 as bytes from pg_class
  where relname ~ '^heartbeats_[0-9]{8}${DEVICE_INDEX}$'`
/** A phone that reports each minute of the days that are kept: up to 10,080 rows, beside those that it has. */
const REPORT_EACH_MINUTE = /* sql */ `
  insert into heartbeats (bucket, device_id, seq, received_at, status, battery_pct, network_type, uptime_s, plugged,
    temp_c, ram_used_mb, app_version, request_id)
  select b, $1::uuid, 1, b + interval '3 s', 'ok', 71, 'wifi', 86400, false, 28.5, 2243, '1.0.252-52638d7', $1::uuid::text
  from generate_series(date_trunc('day', now(), 'UTC') - ($2::int - 1) * interval '1 day', now(), interval '1 minute') b
  on conflict do nothing`

/** Prints the figures; false if 95 of 100 reads of a kind took more than they must. */
export async function measureHistory(bench: HistoryBench): Promise<boolean> {
  const { service, db, devices } = bench
  await daysIndexed(db)
  const dense = seededDeviceId(devices)
  await db.query(REPORT_EACH_MINUTE, [dense, DAYS])
  const since = new Date(Date.now() - DAYS * DAY_MS).toISOString()
  const path = (id: string, query: string) =>
    `/admin/devices/${id}/heartbeats?since=${since}&${query}`
  const any = (read: number) => seededDeviceId(((read * STRIDE) % devices) + 1)
  const kinds: readonly (readonly [string, (read: number) => string])[] = [
    ['any phone, each heartbeat', (read) => path(any(read), 'limit=200')],
    ['any phone, by the hour', (read) => path(any(read + READS), 'limit=200&step_s=3600')],
    ['a heartbeat a minute, the newest 200', () => path(dense, 'limit=200')],
    ['a heartbeat a minute, by the hour', () => path(dense, 'limit=200&step_s=3600')],
  ]
  let isHeld = true
  for (const [kind, pathOf] of kinds) {
    const read = await timed(service, pathOf)
    const p95Ms = quantile(read.ms, 0.95)
    isHeld &&= p95Ms <= MUST_MS
    console.log(
      `history, ${kind}: ${read.rows} rows, median ${median(read.ms).toFixed(0)} ms, p95 ${p95Ms.toFixed(0)} ms, ` +
        `worst ${Math.max(...read.ms).toFixed(0)} ms (must ${MUST_MS})`,
    )
  }
  return isHeld
}

/** The service indexes days that are over once it runs. */
async function daysIndexed(db: pg.Client): Promise<void> {
  const startedAtMs = performance.now()
  const passedMs = () => performance.now() - startedAtMs
  while ((await db.query(UNINDEXED, [0])).rowCount !== 0) {
    if (passedMs() > INDEX_TIMEOUT_MS) throw new Error('days are still without their index')
    await wait(1_000)
  }
  const bytes = (await db.query<{ bytes: number }>(INDEX_BYTES)).rows[0]?.bytes ?? Number.NaN
  console.log(
    `indexes by device: waited ${(passedMs() / 1e3).toFixed(0)} s, ${(bytes / 1e9).toFixed(1)} GB`,
  )
}

/** The times, and the rows of the last answer. Throws unless all are 200 and none is empty. */
async function timed({ origin, adminToken }: BenchService, pathOf: (read: number) => string) {
  const send = createSend(origin)
  const headers = { authorization: `Bearer ${adminToken}` }
  const ms: number[] = []
  let rows = 0
  for (let read = 0; read < READS; read += 1) {
    const startedAtMs = performance.now()
    const { status, bytes } = await send({ method: 'GET', path: pathOf(read), headers })
    ms.push(performance.now() - startedAtMs)
    const { heartbeats, steps } = JSON.parse(bytes.toString())
    rows = (heartbeats ?? steps ?? []).length
    if (status !== 200 || rows === 0) throw new Error(`${status}, ${rows} rows: ${bytes}`)
  }
  return { ms, rows }
}
