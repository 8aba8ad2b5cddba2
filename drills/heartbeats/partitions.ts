/**
 * `npm run drill -- partitions`: two replicas race for the partitions of a moving clock while phones send heartbeats:
 * none is refused, none is lost. Today's partition is dropped again and again.
 */
import type pg from 'pg'
import { type Partitions, partitions } from '../../src/db/heartbeats/partitions.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import { defineDrill } from '../drill.ts'
import { startReplicaPair } from '../shared/replica-pair.ts'
import { beatDuring } from './sending.ts'

export interface RaceOptions {
  readonly url: string
  /** A superuser's client of the same database. */
  readonly db: pg.Client
  readonly rounds: number
  readonly random: () => number
}

export interface RaceFigures {
  readonly rounds: number
  /** Days created and dropped, each by one replica. */
  readonly created: number
  readonly dropped: number
  /** Errors of `maintain`. */
  readonly failed: readonly string[]
  /** Days of today and the 7 ahead without a partition at the end. */
  readonly missing: readonly string[]
  /** Heartbeats left in the DEFAULT partition. */
  readonly inNet: number
}

const RETENTION_DAYS = 7
const SLOW_TIMEOUT_MS = 30_000
/** How often today's partition is dropped and its rows move to the DEFAULT partition. */
const TAKE_AWAY_EVERY = 5

/** Moves the day's rows to the DEFAULT partition, as if nobody had created the day. */
const TAKE_AWAY = (partition: string) => `
  begin;
  lock table heartbeats in access exclusive mode;
  alter table heartbeats detach partition ${partition};
  insert into heartbeats_default select * from ${partition};
  drop table ${partition};
  commit`

const PHONES = 8

export const partitionsDrill = defineDrill({
  name: 'partitions',
  promise:
    'two replicas race for the days under heartbeats: none refused, none lost, no day missing',
  options: { rounds: { standard: 1_000, what: 'of both replicas, each on another day' } },
  needs: 'postgres',
  run: async ({ rounds }, { databaseUrl: url, dataDir }) => {
    const pair = await startReplicaPair(
      {
        ...serviceSettings(url, dataDir),
        HEARTBEAT_DEDUP_WINDOW_S: '0',
      },
      Math.random,
    )
    const { byStatus, race, storedRows } = await withClient(url, async (db) => {
      await seedFleet(db, HMAC_SECRET, PHONES)
      const tokens = Array.from({ length: PHONES }, (_, index) =>
        seededToken(HMAC_SECRET, index + 1),
      )
      const { byStatus, value: race } = await beatDuring(pair.send, tokens, () =>
        racePartitions({ url, db, rounds, random: Math.random }),
      )
      const stored = await db.query('select count(*)::int as "count" from heartbeats')
      return { byStatus, race, storedRows: Number(stored.rows[0].count) }
    })
    const exits = await pair.stop()
    const faults = pair.faults()
    return [
      {
        promise: 'every heartbeat is answered with 200 and is a row',
        measured: `${JSON.stringify(byStatus)}, ${storedRows} rows`,
        isHeld: Object.keys(byStatus).join() === '200' && storedRows === byStatus['200'],
      },
      {
        promise: 'no replica fails at a day, no day is missing, none is left in the net',
        measured: `${race.created} made, ${race.dropped} dropped, failed: ${race.failed.join() || 'none'}; missing: ${race.missing.join() || 'none'}; ${race.inNet} in the net`,
        isHeld: race.failed.length === 0 && race.missing.length === 0 && race.inNet === 0,
      },
      {
        promise: 'no replica ends but by our hand, no answer 500',
        measured: `${faults.length} faults ${faults[0] ?? ''}; exit codes ${exits.join(', ')}`,
        isHeld: faults.length === 0,
      },
    ]
  },
})

export async function racePartitions(options: RaceOptions): Promise<RaceFigures> {
  const { db, rounds, random } = options
  let shiftDays = 0
  const pools = [0, 1].map(
    () =>
      new Pool({
        url: options.url,
        maxConnections: 1,
        isPrepared: true,
        queryTimeoutMs: SLOW_TIMEOUT_MS,
      }),
  )
  const replicas: readonly Partitions[] = pools.map((pool) =>
    partitions(pool, { retentionDays: RETENTION_DAYS, shiftDays: () => shiftDays }),
  )
  let created = 0
  let dropped = 0
  const failed: string[] = []
  async function maintain(): Promise<void> {
    for (const changes of await Promise.all(replicas.map((replica) => replica.maintain()))) {
      created += changes.created.length
      dropped += changes.dropped.length
      failed.push(...changes.failed.map(({ partition, error }) => `${partition}: ${error}`))
    }
  }

  for (let round = 1; round <= rounds; round++) {
    // Never so far ahead that today's heartbeats exceed the retention.
    shiftDays = Math.floor(random() * (RETENTION_DAYS + 1))
    const { today, ahead } = await daysOf(db)
    if (round % TAKE_AWAY_EVERY === 0) await db.query(TAKE_AWAY(today))
    const gone = ahead[Math.floor(random() * ahead.length)]
    if (gone !== undefined) await db.query(`drop table if exists ${gone}`)
    await maintain()
  }
  shiftDays = 0
  await maintain()
  await Promise.all(pools.map((pool) => pool.close(SLOW_TIMEOUT_MS)))
  const { existing, today, ahead } = await daysOf(db)
  const net = await db.query('select count(*)::int as "count" from heartbeats_default')
  return {
    rounds,
    created,
    dropped,
    failed,
    missing: [today, ...ahead].filter((day) => !existing.has(day)),
    inNet: net.rows[0].count,
  }
}

async function daysOf(db: pg.Client) {
  const days = await db.query<{ name: string }>(
    `select 'heartbeats_' || to_char((now() at time zone 'UTC')::date + n, 'YYYYMMDD') as name
     from generate_series(0, 7) n order by n`,
  )
  const [today = '', ...ahead] = days.rows.map(({ name }) => name)
  const { rows } = await db.query<{ name: string }>(
    `select inhrelid::regclass::text as name from pg_inherits
     where inhparent = 'heartbeats'::regclass`,
  )
  return { today, ahead, existing: new Set(rows.map(({ name }) => name)) }
}
