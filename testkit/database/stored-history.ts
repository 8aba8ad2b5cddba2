/** Inserts days of heartbeats into their partitions by set-based SQL, a day per transaction. */
import type pg from 'pg'

/** As many as are kept by default, including today, so that measured inserts go into a large partition. */
const DAYS = 7
/** Windows of 10 s in a day. */
const BUCKETS_A_DAY = 8_640

export interface History {
  /** Of devices 1 to `devices` (seeded-fleet.ts). */
  readonly devices: number
  readonly count: number
  /** Stops after so many days. */
  readonly mostDays: number
  readonly print: (line: string) => void
}

/** Skips days with rows; false if it stopped after `mostDays`. */
export async function storeHistory(db: pg.Client, history: History): Promise<boolean> {
  const perDay = Math.ceil(history.count / DAYS)
  await db.query(`set maintenance_work_mem = '1GB'; set max_parallel_maintenance_workers = 2`)
  let stored = 0
  for (let age = DAYS - 1; age >= 0; age--) {
    const { rows } = await db.query<{ day: string; next: string; buckets: number }>(
      `select to_char(d - $1::int, 'YYYY-MM-DD') as day, to_char(d - $1::int + 1, 'YYYY-MM-DD') as next,
         least(${BUCKETS_A_DAY}, ceil(extract(epoch from now() - (d - $1::int)::timestamp at time zone 'UTC') / 10))::int
           as buckets
       from (select (now() at time zone 'UTC')::date as d) t`,
      [age],
    )
    const [day] = rows
    if (day === undefined || (await hasRows(db, tableOf(day.day)))) continue
    if (stored === history.mostDays) return false
    const startedAtMs = performance.now()
    await storeDay(db, day, history.devices, perDay)
    const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(0)
    history.print(`${tableOf(day.day)}: ${perDay} heartbeats in ${seconds} s`)
    stored += 1
  }
  return stored < history.mostDays
}

const tableOf = (day: string) => `heartbeats_${day.replaceAll('-', '')}`

async function hasRows(db: pg.Client, table: string): Promise<boolean> {
  const { rows } = await db.query<{ oid: string | null }>('select to_regclass($1) as oid', [table])
  if (rows[0]?.oid == null) return false
  return ((await db.query(`select from ${table} limit 1`)).rowCount ?? 0) > 0
}

/** Fills the table before it is indexed and attached. The service may have created today, empty. */
async function storeDay(
  db: pg.Client,
  { day, next, buckets }: { readonly day: string; readonly next: string; readonly buckets: number },
  devices: number,
  count: number,
): Promise<void> {
  const table = tableOf(day)
  const perBucket = Math.max(1, Math.ceil(count / buckets))
  await db.query('begin')
  await db.query(`drop table if exists ${table}`)
  await db.query(`create table ${table} (like heartbeats including defaults including constraints)`)
  await db.query(
    `insert into ${table} (bucket, device_id, seq, received_at, status, battery_pct, network_type, uptime_s,
       plugged, temp_c, ram_used_mb, app_version, request_id)
     select b, ('01a20000-0000-7000-8000-' || lpad(to_hex(g % ${devices} + 1), 12, '0'))::uuid, 0,
       b + interval '3 s', 'ok', (g % 100)::int2, 'wifi', g, false, 28.5, 2243, '1.0.252-52638d7',
       '01a20000-0000-7000-8000-' || lpad(to_hex(g), 12, '0')
     from (select g, timestamptz '${day} 00:00:00+00' + (g / ${perBucket}) * interval '10 s' as b
           from generate_series(0, ${count - 1}) g) t`,
  )
  await db.query(`alter table ${table} add primary key (bucket, device_id, seq)`)
  await db.query(
    `alter table heartbeats attach partition ${table}
     for values from ('${day} 00:00:00+00') to ('${next} 00:00:00+00')`,
  )
  await db.query('commit')
  await db.query(`vacuum (analyze) ${table}`)
}
