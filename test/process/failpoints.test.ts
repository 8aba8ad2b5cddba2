/**
 * Promise R1 at each named failpoint: the process dies there under load, the next one takes its database and port,
 * and nothing that was acknowledged is missing, lost or run twice.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createCommandsAdmin } from '../../drills/commands-admin.ts'
import { checkCommands } from '../../drills/commands-check.ts'
import { createCommandsJournal } from '../../drills/commands-journal.ts'
import { countOpen, lapseLeases, readStored } from '../../drills/commands-stored.ts'
import { type Replica, type ReplicaOptions, startReplica } from '../../drills/replica.ts'
import { startFcmStandIn } from '../../sim/fcm-stand-in.ts'
import { createFleet, issueEnrollmentTokens } from '../../sim/fleet.ts'
import { createSend } from '../../sim/http.ts'
import type { Failpoint } from '../../src/core/failpoint.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { until } from '../helpers/replicas.ts'
import { ADMIN } from '../helpers/service.ts'

/** The second is reached in the middle of the load. */
const HITS: Readonly<Record<Failpoint, readonly number[]>> = {
  before_commit: [1, 5],
  after_commit_before_reply: [1, 12],
  mid_group: [1, 7],
  after_claim: [1, 4],
  after_fcm_before_record: [1, 6],
  mid_shutdown: [1, 1],
}
const FAILPOINTS = Object.keys(HITS) as Failpoint[] // its own keys
const ALIASES = ['F01', 'F02', 'F03', 'F04'] as const
/** Hears of commands by heartbeats too; the others by push alone. */
const BEATING = 2
const ADMINS = 3
const MAX_IN_FLIGHT = 8
const RETRY_BASE_MS = 50
/** More than the longest wait of a phone before it tries again. */
const LONG_MS = 600_000

const fcm = await startFcmStandIn()
t.teardown(() => fcm.close())
const databaseUrl = await createDatabase(t)
const db = await connect(t, databaseUrl)
const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-data-'))
t.teardown(() => rmSync(dataDir, { recursive: true, force: true }))
const settings = {
  DATABASE_URL: databaseUrl,
  DATA_DIR: dataDir,
  ADMIN_TOKENS: `tester=${ADMIN}`,
  HMAC_SECRET: 'test-hmac-secret-0123456789abcdef',
  FIREBASE_SERVICE_ACCOUNT_JSON: fcm.serviceAccount.json,
  FCM_BASE_URL: fcm.baseUrl,
  FCM_RETRY_BASE_MS: String(RETRY_BASE_MS),
  FCM_MAX_IN_FLIGHT: String(MAX_IN_FLIGHT),
  HEARTBEAT_DEDUP_WINDOW_S: '0',
}

const first = start(t, { settings })
const origin = await first.origin
const port = Number(new URL(origin).port)
await first.ready
const send = createSend(origin)
const journal = createCommandsJournal()
const admin = createCommandsAdmin(send, ADMIN, journal)
let phoneSkewMs = 0
const fleet = createFleet({
  ...journal.watch(send),
  aliases: ALIASES,
  nowMs: () => Date.now() + phoneSkewMs,
  random: Math.random,
  push: fcm,
})
await fleet.enroll(await issueEnrollmentTokens(send, ADMIN, ALIASES))
await stop(first)

let commands = 0
let kills = 0

function start(t: Test, options: ReplicaOptions): Replica {
  const life = startReplica(options)
  t.teardown(() => life.signal('SIGKILL')) // where the test breaks
  return life
}

async function stop(life: Replica): Promise<number | null> {
  life.signal('SIGTERM')
  return (await life.ended).code
}

/** Heartbeats, commands and their results as fast as they are answered, until the process is dead. */
async function load(life: Replica, sigtermAfter: number | null): Promise<readonly Promise<void>[]> {
  let isDead = false
  void life.ended.then(() => {
    isDead = true
  })
  await Promise.race([life.ready, life.ended]).catch(() => {})
  const unanswered: Promise<void>[] = []
  const orderAll = async () => {
    while (!isDead) {
      commands += 1
      const alias = ALIASES[commands % ALIASES.length] ?? ''
      // An order that the death left unanswered goes on until the next process answers it.
      const order = admin.create({ requestId: `f-${commands}`, alias, ttlS: 86_400, waitMs: 0 })
      unanswered.push(order)
      if (commands === sigtermAfter) life.signal('SIGTERM')
      await Promise.race([order, life.ended])
    }
  }
  const beatAll = fleet.devices.slice(0, BEATING).map(async (device) => {
    while (!isDead) await device.beat()
  })
  await Promise.all([...Array.from({ length: ADMINS }, orderAll), ...beatAll])
  return unanswered
}

async function surviveOne(t: Test, failpoint: Failpoint, hit: number, nth: number): Promise<void> {
  const isShutdown = failpoint === 'mid_shutdown'
  fcm.setMode({ fcm: isShutdown && nth > 0 ? 'hang' : 'ok' }) // with and without sends in flight
  const life = start(t, {
    settings: { ...settings, FAILPOINT: failpoint, FAILPOINT_HIT: String(hit) },
    port,
    main: 'drills/failpoint-main.js',
  })
  const unanswered = await load(life, isShutdown ? commands + 20 : null)
  t.same(await life.ended, { code: null, signal: 'SIGKILL' }, 'it died there')
  kills += 1
  fcm.setMode({ fcm: 'ok' })
  await lapseLeases(db, 0) // instead of 60 s

  const next = start(t, { settings, port })
  await next.ready
  await Promise.all(unanswered)
  await until(async () => {
    phoneSkewMs += LONG_MS // a phone that was refused meanwhile tries again, too
    await fleet.beat()
    return fleet.report().queued === 0 && (await countOpen(db)) === 0
  })
  t.equal(await stop(next), 0, 'the next one ends in order')
  const figures = checkCommands({
    journal,
    pushes: fcm.journal,
    stored: await readStored(db),
    rules: { retryBaseMs: RETRY_BASE_MS, retryAfterMs: {}, unrecordedMs: 0 },
    mostLostAttempts: kills * MAX_IN_FLIGHT,
  })
  for (const { promise, measured, isHeld } of figures) t.ok(isHeld, `${promise}: ${measured}`)
}

for (const failpoint of FAILPOINTS) {
  t.test(`a death ${failpoint} loses nothing and runs nothing twice`, async (t) => {
    for (const [nth, hit] of HITS[failpoint].entries()) await surviveOne(t, failpoint, hit, nth)
  })
}

t.test('no setting reaches a failpoint of the service as it ships', async (t) => {
  const lives = FAILPOINTS.map((failpoint, index) =>
    start(t, {
      settings: { ...settings, FAILPOINT: failpoint, FAILPOINT_HIT: '1' },
      port: index === 0 ? port : 0, // the phones' one
    }),
  )
  for (const [index, life] of lives.entries()) {
    await life.ready
    const order = { requestId: `set-${index}`, alias: ALIASES[0], ttlS: 86_400, waitMs: 0 }
    await createCommandsAdmin(createSend(await life.origin), ADMIN, journal).create(order)
  }
  await until(async () => {
    await fleet.beat()
    return (await countOpen(db)) === 0
  })
  for (const life of lives) t.equal(await stop(life), 0, 'it serves, and ends in order')
})
