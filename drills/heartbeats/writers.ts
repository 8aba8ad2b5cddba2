/** `npm run drill -- writers`: several writers store heartbeats of the same devices at once, as replicas do: no deadlock, every update HOT. */

import type pg from 'pg'
import { type HeartbeatItem, storeHeartbeats } from '../../src/db/heartbeats/heartbeats.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { migrate, readMigrations } from '../../src/db/schema/migrate.ts'
import { HOT_SETTINGS } from '../../src/db/stores.ts'
import { heartbeatItem } from '../../testkit/database/heartbeat-item.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { defineDrill } from '../drill.ts'
import { grow, NOTHING, tokenHash } from '../plans/installation.ts'

export interface WritersOptions {
  readonly url: string
  /** A superuser's client of the same empty, migrated database. */
  readonly db: pg.Client
  readonly writers: number
  /** All groups choose from so many devices. */
  readonly devices: number
  readonly groupSize: number
  /** Asked before each group. */
  readonly isOver: (groups: number) => boolean
  readonly random: () => number
}

export interface WritersFigures {
  readonly heartbeats: number
  readonly groups: number
  readonly deadlocks: number
  /** Share of all updates of device_status. */
  readonly hotPct: number
  readonly storedRows: number
}

const FLEET = { ...NOTHING, devices: 5_000, open: 500 }
/** Long: a writer that gave up would hide a deadlock. */
const LOCK_TIMEOUT_MS = 30_000

const LEAST_HOT_PCT = 95

export const writersDrill = defineDrill({
  name: 'writers',
  promise: 'eight writers with overlapping phones: no deadlock, every row stored, updates are HOT',
  options: { seconds: { standard: 60, what: 'they write' } },
  needs: 'postgres',
  run: async ({ seconds }, { databaseUrl: url }) => {
    await migrate(url, readMigrations())
    const endsAtMs = performance.now() + 1_000 * seconds
    const { deadlocks, hotPct, storedRows, heartbeats } = await withClient(url, (db) =>
      runWriters({
        url,
        db,
        writers: 8,
        devices: 4_000,
        groupSize: 64,
        isOver: () => performance.now() >= endsAtMs,
        random: Math.random,
      }),
    )
    return [
      { promise: '0 deadlocks', measured: `${deadlocks}`, isHeld: deadlocks === 0 },
      {
        promise: 'every heartbeat is a row',
        measured: `${heartbeats} heartbeats, ${storedRows} rows`,
        isHeld: storedRows === heartbeats,
      },
      {
        promise: `at least ${LEAST_HOT_PCT} % of the updates are HOT`,
        measured: `${hotPct.toFixed(1)} %`,
        isHeld: hotPct >= LEAST_HOT_PCT,
      },
    ]
  },
})

export async function runWriters(options: WritersOptions): Promise<WritersFigures> {
  const { url, db } = options
  await grow(db, NOTHING, FLEET)
  await db.query(`select pg_stat_reset()`)
  const hashes = Array.from({ length: options.devices }, (_, index) => tokenHash(index + 1))
  let groups = 0
  let heartbeats = 0
  const write = async () => {
    const pool = new Pool({
      url,
      maxConnections: 1,
      isPrepared: true,
      lockTimeoutMs: LOCK_TIMEOUT_MS,
      queryTimeoutMs: 2 * LOCK_TIMEOUT_MS,
      serverSettings: HOT_SETTINGS,
    })
    const store = storeHeartbeats(pool, 0, 300)
    while (!options.isOver(groups)) {
      groups++
      const responses = await store(drawn(hashes, options).map(itemOf))
      heartbeats += responses.filter(({ kind }) => kind === 'stored').length
    }
    await pool.close(LOCK_TIMEOUT_MS)
  }
  await Promise.all(Array.from({ length: options.writers }, write))
  return { heartbeats, groups, ...(await countersOf(db, heartbeats)) }
}

/** Different ones, in random order. */
function drawn(hashes: readonly Buffer[], { groupSize, random }: WritersOptions) {
  return hashes
    .map((hash) => ({ hash, place: random() }))
    .sort((a, b) => a.place - b.place)
    .slice(0, groupSize)
    .map(({ hash }) => hash)
}

function itemOf(tokenHash: Buffer): HeartbeatItem {
  return heartbeatItem(tokenHash, 'writers', { batteryPct: 50, networkType: 'wifi', uptimeS: 1 })
}

const COUNTERS = /* sql */ `
  select d.deadlocks::int as "deadlocks", s.n_tup_upd::int as "updates",
    100.0::float8 * s.n_tup_hot_upd / greatest(s.n_tup_upd, 1) as "hotPct",
    (select count(*)::int from heartbeats) as "storedRows"
  from pg_stat_database d, pg_stat_user_tables s
  where d.datname = current_database() and s.relname = 'device_status'`

/** Sessions report their counters when they end, slightly after their clients notice. */
async function countersOf(db: pg.Client, heartbeats: number) {
  for (;;) {
    const { rows } = await db.query(COUNTERS)
    if (rows[0].updates >= heartbeats) return rows[0]
    await db.query('select pg_sleep(0.05)')
  }
}
