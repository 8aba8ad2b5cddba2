/** The stored heartbeats of one phone, by index and by look-up, in pages and in steps. */
import t, { type Test } from 'tap'
import { type HistoryRow, type HistoryStep, historyStore } from '../../src/db/heartbeats/history.ts'
import { partitions } from '../../src/db/heartbeats/partitions.ts'
import type { ListPage } from '../../src/db/list-page.ts'
import { untilMidnightIsFar } from '../../testkit/until.ts'
import { connect, createDatabase, databaseOf } from '../helpers/database.ts'

const PHONE = '01a20000-0000-7000-8000-000000000001'
/** The length of steps, and how many are a page. */
const STEPS = [
  [60, 400],
  [2_700, 7],
  [86_400, 2],
] as const
const PAGE = 400

await untilMidnightIsFar()
const db = await connect(t, await createDatabase(t))
const database = databaseOf(db)
const history = historyStore(database, 10)

t.test('the history of a phone is the same with an index and without', async (t) => {
  const { maintain } = partitions(database, { retentionDays: 7 })
  await maintain()
  const [before, today] = [await day(-2), await day(0)]
  const stored = await store(before)
  t.equal(stored.length, 949)
  // The rows are in the net until their days are made; then those are indexed in the same turn.
  t.same((await maintain()).failed, [])
  const made = await indexes()
  t.ok(made.includes(`heartbeats_${before}_device`), 'a day that is over')
  t.notOk(made.includes(`heartbeats_${today}_device`), 'no day that still gets heartbeats')
  await compare(t, stored, 'by index')
  for (const name of made) await db.query(`drop index ${name}`)
  await compare(t, stored, 'looked up')
})

/** The database's own, as it names its partitions. */
async function day(offset: number): Promise<string> {
  const sql = `select to_char((now() at time zone 'UTC')::date + $1::int, 'YYYYMMDD') as day`
  return (await db.query(sql, [offset])).rows[0].day
}

async function indexes(): Promise<readonly string[]> {
  const sql = `select indexname from pg_indexes where indexname like '%\\_device' and indexname ~ '^heartbeats_[0-9]'`
  return (await db.query(sql)).rows.map(({ indexname }) => indexname)
}

/** Two days of three phones, with two windows, a gap, values that are missing, and a reception after the window. */
async function store(from: string): Promise<readonly Stored[]> {
  await db.query(
    `insert into heartbeats (bucket, device_id, seq, received_at, status, battery_pct, uptime_s, temp_c, request_id)
     select b, ('01a20000-0000-7000-8000-00000000000' || p)::uuid, p - 1, b + p * interval '4.000123 s',
       case n % 3 when 0 then null when 1 then 'ok' else 'warn' end, case when n % 4 > 0 then n % 101 end,
       n * 1000000, case when n % 500 < 250 then n / 10.0 end, 'r' || n
     from generate_series(1, 1000) n, generate_series(1, 3) p,
       lateral (select to_date($1, 'YYYYMMDD')::timestamp at time zone 'UTC'
         + n * case when n < 400 then interval '90 s' else interval '120 s' end as b) t
     where n not between 300 and 350`,
    [from],
  )
  const { rows } = await db.query<Stored>(
    `select to_char(bucket at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "bucket", seq, status as "status",
       battery_pct as "batteryPct", uptime_s as "uptimeS", temp_c as "tempC", request_id as "requestId"
     from heartbeats where device_id = $1 order by bucket desc, seq desc`,
    [PHONE],
  )
  return rows
}

async function compare(t: Test, stored: readonly Stored[], what: string): Promise<void> {
  const timeOf = (index: number, more = '123') =>
    new Date(Date.parse(stored[index]?.bucket ?? '') + 4_000).toISOString().replace('Z', `${more}Z`)
  for (const [since, until, expected] of [
    [null, null, stored],
    [timeOf(700), null, stored.slice(0, 701)],
    [timeOf(700, '124'), null, stored.slice(0, 700)],
    [null, timeOf(100), stored.slice(101)],
    [null, timeOf(100, '124'), stored.slice(100)],
    [timeOf(640), timeOf(630), stored.slice(631, 641)],
    [timeOf(0), timeOf(0), []],
  ] as const) {
    const filter = { since, until }
    const rows = await allPages<HistoryRow>(
      PAGE,
      (page) => history.read(PHONE, page, filter),
      ({ bucket, seq }) => ({ at: bucket, id: String(seq) }),
    )
    t.match(rows, expected, what)
    t.equal(rows.length, expected.length, what)
    for (const [stepS, limit] of STEPS) {
      const steps = await allPages<HistoryStep>(
        limit,
        (page) => history.steps(PHONE, page, filter, stepS),
        ({ from }) => ({ at: from, id: '0' }),
      )
      const recounted = stepped(expected, stepS)
      t.match(steps, recounted, `${what}, steps of ${stepS} s`)
      t.equal(steps.length, recounted.length)
    }
  }
}

async function allPages<Row>(
  limit: number,
  read: (page: ListPage) => Promise<readonly Row[]>,
  keyOf: (row: Row) => NonNullable<ListPage['after']>,
): Promise<readonly Row[]> {
  const rows: Row[] = []
  for (let after: ListPage['after'] = null; ; ) {
    const page: readonly Row[] = await read({ limit, after })
    rows.push(...page)
    const last = page.at(-1)
    if (last === undefined || page.length < limit) return rows
    after = keyOf(last)
  }
}

interface Stored {
  readonly bucket: string
  readonly batteryPct: number | null
  readonly tempC: number | null
}

/** Newest first, as plain TypeScript steps. */
function stepped(rows: readonly Stored[], stepS: number) {
  const steps = new Map<number, Stored[]>()
  for (const row of rows) {
    const step = Math.floor(Date.parse(row.bucket) / (stepS * 1_000))
    steps.set(step, [...(steps.get(step) ?? []), row])
  }
  const extremes = (numbers: readonly (number | null)[]) => {
    const known = numbers.filter((number) => number !== null)
    return known.length === 0 ? [null, null] : [Math.min(...known), Math.max(...known)]
  }
  return [...steps].map(([step, of]) => {
    const [leastBattery, mostBattery] = extremes(of.map(({ batteryPct }) => batteryPct))
    const [leastTemp, mostTemp] = extremes(of.map(({ tempC }) => tempC))
    return {
      from: new Date(step * stepS * 1_000).toISOString().replace('Z', '000Z'),
      heartbeats: of.length,
      min: { batteryPct: leastBattery, tempC: leastTemp },
      max: { batteryPct: mostBattery, tempC: mostTemp },
      last: of[0],
    }
  })
}
