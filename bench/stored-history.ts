/** Days of heartbeats straight into their partitions, as if a fleet had sent them: set-based, a day in one transaction. */
import type pg from 'pg'

/** Whole days before today that the rows are spread over. */
const DAYS = 5
/** Windows of 10 s in a day. */
const BUCKETS_A_DAY = 8_640

/** `count` rows of devices 1 to `devices` (seeded-fleet.ts). A day is filled before its index is made and it is attached. */
export async function storeHistory(
  db: pg.Client,
  devices: number,
  count: number,
  said: (text: string) => void,
): Promise<void> {
  const perDay = Math.ceil(count / DAYS)
  const perBucket = Math.max(1, Math.ceil(perDay / BUCKETS_A_DAY))
  await db.query(`set maintenance_work_mem = '1GB'; set max_parallel_maintenance_workers = 2`)
  for (let age = DAYS; age >= 1; age--) {
    const startedAtMs = performance.now()
    const { rows } = await db.query<{ day: string; next: string }>(
      `select to_char(d - $1::int, 'YYYY-MM-DD') as day, to_char(d - $1::int + 1, 'YYYY-MM-DD') as next
       from (select (now() at time zone 'UTC')::date as d) t`,
      [age],
    )
    const { day, next } = rows[0] ?? { day: '', next: '' }
    const table = `heartbeats_${day.replaceAll('-', '')}`
    await db.query('begin')
    await db.query(
      `create table ${table} (like heartbeats including defaults including constraints)`,
    )
    await db.query(
      `insert into ${table} (bucket, device_id, seq, received_at, status, battery_pct, network_type, uptime_s,
         plugged, temp_c, ram_used_mb, app_version, request_id)
       select b, ('01a20000-0000-7000-8000-' || lpad(to_hex(g % ${devices} + 1), 12, '0'))::uuid, 0,
         b + interval '3 s', 'ok', (g % 100)::int2, 'wifi', g, false, 28.5, 2243, '1.0.252-52638d7',
         '01a20000-0000-7000-8000-' || lpad(to_hex(g), 12, '0')
       from (select g, timestamptz '${day} 00:00:00+00' + (g / ${perBucket}) * interval '10 s' as b
             from generate_series(0, ${perDay - 1}) g) t`,
    )
    await db.query(`alter table ${table} add primary key (bucket, device_id, seq)`)
    await db.query(
      `alter table heartbeats attach partition ${table}
       for values from ('${day} 00:00:00+00') to ('${next} 00:00:00+00')`,
    )
    await db.query('commit')
    await db.query(`vacuum (analyze) ${table}`)
    const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(0)
    said(`${table}: ${perDay} heartbeats in ${seconds} s`)
  }
}
