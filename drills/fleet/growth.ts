/**
 * `npm run drill -- growth`: one quiet window and one busy one with the same heartbeats. In the busy one a mass of
 * commands expires, another is pushed to an FCM that takes 100 ms, phones fetch commands, and two admins read lists.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createHistogram } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import type pg from 'pg'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import type { LoadReport } from '../../sim/load/load.ts'
import { withClient, withPostgres } from '../../testkit/database/postgres.ts'
import { seededToken } from '../../testkit/database/seeded-fleet.ts'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import { type DatabaseEnvironment, defineDrill, type Figure, type Values } from '../drill.ts'
import { fill, tune } from '../plans/fill.ts'
import { deviceId, deviceIdSql, installationOf, NOTHING } from '../plans/installation.ts'
import { swept } from '../plans/swept.ts'
import { type HeartbeatLoad, startHeartbeats } from '../shared/heartbeat-load.ts'

const OPTIONS = {
  devices: { standard: 30_000, what: 'with commands, audit rows and tokens in proportion' },
  expired: { standard: 100_000, what: 'commands whose time is over at once' },
  due: { standard: 200_000, what: 'commands that are due for push at the same moment' },
  rate: { standard: 300, what: 'heartbeats a second' },
  seconds: { standard: 40, what: 'of each window at least' },
  keep: { standard: '', what: 'directory in which the installation stays, to be used again' },
} as const

type GrowthRun = DatabaseEnvironment & Values<typeof OPTIONS>

const MOST_RATIO = 3
const FCM_LATENCY_MS = 100
const READERS = 2
/** Pause between two reads of one admin. */
const LOOK_MS = 100
const LOOKS = [
  ...['/admin/devices', '/admin/commands', '/admin/commands?status=queued'],
  ...['/admin/commands?status=expired', '/admin/commands?status=sent&action=ping', '/admin/audit'],
  `/admin/commands?device_id=${deviceId(1)}`,
  '/v1/enroll-tokens?status=active',
]
/** For a service that has just started, and a database that has just been filled. */
const SETTLE_MS = 10_000
const MADE_A_SECOND = 4_000
const US_PER_MS = 1_000

/** Commands `$1-n` of the devices 1 to $3 in turn, open until $4 and due for push at $5. */
const MAKE = /* sql */ `
  insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at, push_state, next_attempt_at)
  select $1 || '-' || n, ${deviceIdSql('(n - 1) % $3::int + 1')}, 'ping', '{}',
    '', 'drill', $4::timestamptz, 'waiting', $5::timestamptz
  from generate_series(1, $2::int) n`

export const growthDrill = defineDrill({
  name: 'growth',
  promise: 'phones hardly notice when masses of commands expire and are sent while admins look on',
  options: OPTIONS,
  run(options, environment) {
    const { keep } = options
    if (keep !== '') mkdirSync(keep, { recursive: true })
    return withPostgres(keep || join(environment.dir, 'postgres'), async (postgres) => {
      await tune(postgres)
      return runGrowth({ ...options, ...environment, databaseUrl: postgres.url })
    })
  },
})

async function runGrowth(run: GrowthRun): Promise<readonly Figure[]> {
  const to = installationOf(run.devices)
  const url = await fill(run.databaseUrl, { name: 'growth', from: NOTHING, to, print: run.print })
  const fcm = await startFakeFcm({ latencyMs: FCM_LATENCY_MS })
  for (let n = 1; n <= run.devices; n += 1) fcm.register(`push-S${n}`, () => {})
  const mass = await makeMass(run, url)
  const service = startReplica({
    settings: { ...serviceSettings(url, run.dataDir), ...pushSettings(fcm) },
  })
  try {
    const origin = await service.ready
    return await withClient(url, (db) => measure(run, { db, fcm, origin, mass }))
  } finally {
    await service.stop()
    await fcm.close()
  }
}

interface Mass {
  readonly id: string
  /** When half of it expires and the rest is due. */
  readonly atMs: number
}

/** Made in advance, so that the busy window does not include it. */
async function makeMass(run: GrowthRun, url: string): Promise<Mass> {
  const { devices, expired, due, seconds } = run
  const madeS = (expired + due) / MADE_A_SECOND
  const atMs = Date.now() + SETTLE_MS + 1_000 * (madeS + seconds)
  const id = `mass-${Date.now()}`
  const at = new Date(atMs)
  await withClient(url, async (db) => {
    const late = new Date(atMs + 86_400_000)
    await db.query(MAKE, [`${id}-expired`, expired, devices, at, late])
    await db.query(MAKE, [`${id}-due`, due, devices, late, at])
    await db.query('vacuum (analyze) commands')
    await db.query('checkpoint')
  })
  const leftS = (atMs - Date.now() - SETTLE_MS) / 1_000
  if (leftS < seconds / 2) throw new Error(`made too slowly: only ${leftS.toFixed(0)} s are left`)
  return { id, atMs }
}

interface Rig {
  readonly db: pg.Client
  readonly fcm: FakeFcm
  readonly origin: string
  readonly mass: Mass
}

async function measure(run: GrowthRun, { db, fcm, origin, mass }: Rig): Promise<readonly Figure[]> {
  const load = startHeartbeats(origin, senders(run), run.rate)
  await wait(SETTLE_MS)
  const quietP99Ms = await windowOf(load, () => wait(mass.atMs - Date.now()))
  const sendsBefore = fcm.requests.send
  const startedAtMs = performance.now()
  let expiredS = 0
  const over = new AbortController()
  const looks = Array.from({ length: READERS }, () => look(origin, over.signal))
  const busyP99Ms = await windowOf(load, async () => {
    await swept(db)
    expiredS = (performance.now() - startedAtMs) / 1_000
    await wait(1_000 * (run.seconds - expiredS))
  })
  const busyS = (performance.now() - startedAtMs) / 1_000
  over.abort()
  const seen = await Promise.all(looks)
  const report = await load.stop()
  const sends = fcm.requests.send - sendsBefore
  run.print(
    `${run.expired} commands expired within ${expiredS.toFixed(1)} s; ${sends} pushes in ${busyS.toFixed(0)} s, ` +
      `${await unpushedOf(db, `${mass.id}-due`)} of ${run.due} are still to be pushed`,
  )
  return [
    servedFigure(report),
    {
      promise: `p99 of heartbeats at most ${MOST_RATIO} × that of a quiet service`,
      measured: `${quietP99Ms.toFixed(1)} → ${busyP99Ms.toFixed(1)} ms: ${(busyP99Ms / quietP99Ms).toFixed(2)} ×`,
      isHeld: busyP99Ms <= MOST_RATIO * quietP99Ms,
      isTimed: true,
    },
    looksFigure(seen),
  ]
}

/** Resolves with the p99 of heartbeats. */
async function windowOf(load: HeartbeatLoad, work: () => Promise<unknown>): Promise<number> {
  const end = load.window()
  await work()
  return end()
}

/** One per heartbeat of a window, spread over the fleet: each device reports as rarely as in the field. */
function senders({ devices, rate, seconds }: GrowthRun) {
  const count = Math.min(devices, 2 * rate * seconds)
  const apart = Math.floor(devices / count)
  return Array.from({ length: count }, (_, index) => {
    const n = index * apart + 1
    return { alias: `S${n}`, token: seededToken(HMAC_SECRET, n) }
  })
}

async function unpushedOf(db: pg.Client, tag: string): Promise<number> {
  const { rows } = await db.query<{ left: number }>(
    `select count(*)::int as left from commands where push_state = 'waiting' and request_id like $1 || '-%'`,
    [tag],
  )
  return rows[0]?.left ?? 0
}

interface Seen {
  readonly byStatus: Readonly<Record<string, number>>
  readonly latencyUs: { percentile(percentile: number): number }
}

async function look(origin: string, signal: AbortSignal): Promise<Seen> {
  const send = createSend(origin)
  const byStatus: Record<string, number> = {}
  const latencyUs = createHistogram()
  for (let nth = 0; !signal.aborted; nth += 1) {
    const startedAtMs = performance.now()
    const path = LOOKS[nth % LOOKS.length] ?? ''
    const status = await send({ method: 'GET', path, headers: jsonHeaders(ADMIN_TOKEN) }).then(
      (response) => String(response.status),
      (error: unknown) => `${path}: ${String(error)}`,
    )
    latencyUs.record(Math.max(1, Math.round((performance.now() - startedAtMs) * US_PER_MS)))
    byStatus[status] = (byStatus[status] ?? 0) + 1
    await wait(LOOK_MS)
  }
  return { byStatus, latencyUs }
}

function servedFigure({ due, byStatus, failed, shed }: LoadReport): Figure {
  return {
    promise: 'every heartbeat is answered with 200',
    measured: `${due} due, answers ${JSON.stringify(byStatus)}, failed ${failed}, shed ${shed}`,
    isHeld: byStatus[200] === due,
  }
}

function looksFigure(seen: readonly Seen[]): Figure {
  const quantiles = seen.map(({ latencyUs }) =>
    [50, 95].map((q) => `${(latencyUs.percentile(q) / US_PER_MS).toFixed(0)} ms`).join(' and '),
  )
  return {
    promise: 'every look of an admin is answered with 200',
    measured: `answers ${JSON.stringify(seen.map(({ byStatus }) => byStatus))}; p50 and p95 ${quantiles.join(', ')}`,
    isHeld: seen.every(({ byStatus }) => Object.keys(byStatus).join() === '200'),
  }
}
