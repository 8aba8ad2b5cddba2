/** When a command is pushed to again: what an attempt's record says, and what becomes of it in the command's row. */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { commandOutbox } from '../../src/db/commands/outbox.ts'
import { deviceStore } from '../../src/db/devices/devices.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import type { AttemptRecord, Claim } from '../../src/domain/delivery/outbox.ts'
import { recordOf, sendClaim } from '../../src/push/attempt.ts'
import { seededDeviceId, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { tokenId } from '../../testkit/push-id.ts'
import { connect, createDatabase, PATIENT } from '../helpers/database.ts'
import { HMAC_SECRET } from '../helpers/service.ts'

const url = await createDatabase(t)
const db = await connect(t, url)
await seedFleet(db, { id: 'default', secret: HMAC_SECRET }, 1, { isReporting: true })
const pool = new Pool({ ...PATIENT, url, maxConnections: 2, isPrepared: true })
t.teardown(() => pool.close(1_000))
const outbox = commandOutbox(pool, 'replica')
const deviceId = seededDeviceId(1)

const insert = (id: string, pushState: string, nextAttemptAt: string, endedAt = 'null') =>
  db.query(
    `insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at, push_state,
       next_attempt_at, ended_at, state)
     select $1, $2, 'ping', '{}', '', 'tester', now() + interval '1 day', $3, ${nextAttemptAt}, ended_at,
       case when ended_at is null then 'open' else 'cancelled' end
     from (select ${endedAt}::timestamptz as ended_at) ended`,
    [id, deviceId, pushState],
  )

async function claimOne(): Promise<Claim> {
  const [claim] = await outbox.claim(1, randomUUID())
  if (claim === undefined) throw new Error('nothing was claimed')
  return claim
}

const BACKOFF: AttemptRecord = {
  ...{ pushState: 'backoff', fcmHttpCode: 503, fcmStatus: 'UNAVAILABLE', latencyMs: 1 },
  ...{ pushKind: 'token', retryInMs: 0, reason: null },
}
const SENT: AttemptRecord = { ...BACKOFF, pushState: 'sent', retryInMs: null }

async function rowOf(id: string) {
  const text = `
    select push_state, push_failures, next_attempt_at <= now() as is_due from commands where request_id = $1`
  return (await db.query(text, [id])).rows[0]
}

t.test('each failure in a row doubles the longest wait, up to an hour', async (t) => {
  await insert('doubled', 'waiting', 'now()')
  const now = new Date('2026-03-04T05:06:07Z')
  const retried = (claim: Claim, longestMs: number, share = 1) => {
    const failed = { kind: 'retry', fcmStatus: 'UNAVAILABLE', detail: 'away' } as const
    const outcome = { ...failed, fcmHttpCode: 503, retryAfterMs: null, latencyMs: 1 } as const
    const { pushState, retryInMs } = recordOf(
      { ...claim, expiresAt: new Date(now.getTime() + longestMs) },
      { ...outcome, httpAttempts: 1, pushKind: 'token' },
      { retryBaseMs: 10_000, probeMs: 1, random: () => share, now: () => now },
    )
    return [pushState, retryInMs]
  }
  const dayMs = 86_400_000
  for (const [failures, longestMs] of [20_000, 40_000, 80_000].entries()) {
    const claim = await claimOne()
    t.equal(claim.pushFailures, failures)
    t.same(retried(claim, dayMs), ['backoff', longestMs])
    t.same(retried(claim, dayMs, 0), ['backoff', 10_000], 'the least that FCM asks for')
    t.ok(await outbox.record(claim, BACKOFF))
  }
  const claim = await claimOne()
  t.same(retried({ ...claim, pushFailures: 20 }, dayMs), ['backoff', 3_600_000])
  t.same(retried(claim, 160_001), ['backoff', 160_000])
  t.same(retried(claim, 160_000), ['gave_up', null], 'it would have expired by then')
  t.ok(await outbox.record(claim, SENT))
  t.match(await rowOf('doubled'), { push_state: 'sent', push_failures: 0 }, 'a success begins anew')
})

t.test('a send that rejects is an outcome of its command, which is tried again', async (t) => {
  await insert('rejected', 'waiting', 'now()')
  const claim = await claimOne()
  const send = () => Promise.reject(new TypeError('not this time'))
  const deps = { fcm: { send }, commandKey: () => 'key', now: () => new Date() }
  t.match(await sendClaim(claim, tokenId('a'), deps), {
    ...{ kind: 'retry', pushKind: 'token', httpAttempts: 0, fcmStatus: 'INTERNAL' },
    detail: 'a fault of ours: TypeError: not this time',
  })
  t.ok(await outbox.record(claim, SENT))
})

t.test('a command that waits for its retry is due at once for a new push token', async (t) => {
  await insert('renewed', 'waiting', 'now()')
  await outbox.record(await claimOne(), { ...BACKOFF, retryInMs: 3_600_000 })
  t.match(await rowOf('renewed'), { push_state: 'backoff', push_failures: 1, is_due: false })
  await deviceStore(pool).setPushId({ deviceId, enrollmentNo: 1 }, tokenId('new'), 'r')
  t.same(await rowOf('renewed'), { push_state: 'waiting', push_failures: 0, is_due: true })
})

t.test('what waits for push, now or later, is counted, and nothing else', async (t) => {
  await db.query('delete from commands')
  await insert('now', 'waiting', 'now()')
  await insert('later', 'backoff', `now() + interval '1 h'`)
  await insert('sent', 'sent', 'null')
  await insert('ended', 'waiting', 'now()', 'now()')
  t.equal(await outbox.countWaiting(), 2)
})
