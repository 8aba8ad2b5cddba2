/** Owner of `commands` as an outbox: records attempts, makes commands due again, cancels them. due.ts finds due ones. */
import type { AttemptRecord, Claim, Outbox } from '../../domain/delivery/outbox.ts'
import { pushIdText } from '../../domain/delivery/push-id.ts'
import { HAS_PUSH_ID, PUSH_ID } from '../devices/push-id.ts'
import { DUE_AT } from '../devices/push-id-limit.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { dueCommands, type OutboxExpiry } from './due.ts'
import { DROP_SURPLUS, LEFT_OUT } from './push-steps.ts'

export interface CommandOutbox extends Outbox, OutboxExpiry {
  /** Commands that are or will be due, counted up to MAX_COUNTED. */
  countWaiting(): Promise<number>
}

const RETRY_IN = /* sql */ `make_interval(secs => $6::float8 / 1000)`

/**
 * Fenced by the lease alone. A command that ended meanwhile keeps its state; only the push result is recorded. An
 * open one whose device has a new push identity is due as soon as that may be pushed to, or at its own earlier retry.
 */
const RECORD = /* sql */ `
  with device as materialized (
    select ${DUE_AT} as due_at, ${PUSH_ID} <> $10 and d.fcm_token_died_at is null
      and (${DUE_AT} <= now() + ${RETRY_IN}) is not false as is_due_anew
    from devices d where d.device_id = $11 for share),
  recorded as (
    update commands c set
      push_state = case when c.state = 'open' and d.is_due_anew then 'waiting' else $3 end,
      fcm_http_code = $4, fcm_status = $5,
      push_failures = case when $3 = 'sent' then 0 else c.push_failures + 1 end,
      next_attempt_at = case when c.state = 'open' then
        case when d.is_due_anew then d.due_at else now() + ${RETRY_IN} end end,
      lease_id = null, lease_until = null
    from device d where c.request_id = $1 and c.lease_id = $2
    returning c.request_id, c.next_attempt_at),
  step as (select * from recorded), ${DROP_SURPLUS},
  told as (
    insert into command_events (request_id, stage, code, detail, instance)
    select request_id, case when $3 = 'sent' then 'push_sent' else 'push_failed' end, $5,
      jsonb_build_object('attempt', $9::int, 'push_kind', $13::text, 'fcm_http_code', $4::int, 'latency_ms', $7::float8,
        'retry_at', next_attempt_at) || jsonb_strip_nulls(jsonb_build_object('reason', $12::text))
        || coalesce(${LEFT_OUT}, '{}'), $8
    from step)
  select request_id from recorded`

/** Fenced like RECORD. The locked device row decides: a later commit finds the lease gone. */
const RECORD_NO_TOKEN = /* sql */ `
  with device as materialized (
    select ${HAS_PUSH_ID} and d.fcm_token_died_at is null as is_reachable, ${DUE_AT} as due_at
    from devices d where d.device_id = $3 for share),
  recorded as (
    update commands c set
      push_state = case when c.state = 'open' and d.is_reachable then 'waiting' else 'no_token' end,
      next_attempt_at = case when c.state = 'open' and d.is_reachable then d.due_at end,
      lease_id = null, lease_until = null
    from device d where c.request_id = $1 and c.lease_id = $2
    returning c.request_id, c.push_state, c.state),
  step as (select * from recorded where state = 'open' and push_state = 'no_token'), ${DROP_SURPLUS},
  told as (
    insert into command_events (request_id, stage, detail, instance)
    select request_id, 'no_push_token', ${LEFT_OUT}, $4 from step)
  select case push_state when 'waiting' then 'due' else push_state end as "outcome" from recorded`

/** A phone may register the same FID again. FCM's verdict on the former registration must not mark the new one dead. */
const MARK_DEAD = /* sql */ `
  update devices d set fcm_token_died_at = case when fcm_token_at is not distinct from $3::timestamptz then now() end
  where device_id = $1 and ${PUSH_ID} = $2 and fcm_token_died_at is null
  returning fcm_token_died_at is not null as "isMarked"`
/** Bounds how often a phone that keeps on reporting a dead identity is pushed to. */
const REPORTED_AGAIN_MS = 60_000

const HAND_BACK = /* sql */ `
  update commands set push_state = 'waiting', next_attempt_at = now(), lease_id = null, lease_until = null
  where request_id in (
    select request_id from commands
    where request_id = any ($2::text[]) and lease_id = any ($1::uuid[]) and state = 'open'
    order by request_id for update)`

/** Commands due earlier keep their time and use the new push identity then. */
const REQUEST_PUSH = /* sql */ `
  with device as materialized (
    select ${DUE_AT} as due_at from devices d where d.device_id = $1)
  update commands set push_state = 'waiting', next_attempt_at = (select due_at from device), push_failures = 0
  where request_id in (
    select request_id from commands
    where device_id = $1 and state = 'open' and push_state <> 'off' and lease_id is null
      and (next_attempt_at is null or next_attempt_at > (select due_at from device))
    order by request_id for update)`

/** A batch of 10,000 took 0.8 s, near the statement timeout. */
export const CANCEL_BATCH = 1_000
const CANCEL_SOME_OF = /* sql */ `
  with ended as (
    update commands set state = 'cancelled', ended_at = now(), next_attempt_at = null
    where request_id in (
      select request_id from commands
      where device_id = $1 and state = 'open' and expires_at > now()
      order by request_id limit ${CANCEL_BATCH} for update)
    returning request_id, action),
  told as (
    insert into command_events (request_id, stage, code, detail, instance)
    select request_id, 'cancelled', 'device_deleted', jsonb_build_object('admin', $2::text), $3 from ended)
  select request_id as "requestId", action as "action" from ended`

/**
 * A gauge of each replica, read every few seconds; counting 150,000 took 0.3 s. In the order of commands_due, which
 * holds exactly these: otherwise the planner read 194,131 of 3,000,000 rows to find 10,000 of 200,000.
 */
const MAX_COUNTED = 10_000
const COUNT_WAITING = /* sql */ `
  select count(*)::int as "waiting" from (
    select from commands where ended_at is null and next_attempt_at is not null
    order by next_attempt_at, request_id limit ${MAX_COUNTED}) waiting`

/** Keeps the state of its scans: one instance per dispatcher. */
export function commandOutbox(
  database: Database,
  instance: string,
  nowMs: () => number = () => performance.now(),
): CommandOutbox {
  async function record(tx: Queryable, claim: Claim, attempt: AttemptRecord): Promise<boolean> {
    const { rowCount } = await tx.query({
      name: 'command_queue.record',
      text: RECORD,
      values: [
        claim.requestId,
        claim.leaseId,
        attempt.pushState,
        attempt.fcmHttpCode,
        attempt.fcmStatus,
        attempt.retryInMs,
        attempt.latencyMs,
        instance,
        claim.attempt,
        claim.pushId && pushIdText(claim.pushId),
        claim.deviceId,
        attempt.reason,
        attempt.pushKind,
      ],
    })
    return rowCount === 1
  }

  return {
    ...dueCommands(database, instance, nowMs),

    async record(claim, attempt) {
      return record(database, claim, attempt)
    },

    recordDeadToken(claim, attempt) {
      return database.transaction(async (tx) => {
        const { rows } = await tx.query<{ isMarked: boolean }>({
          name: 'command_queue.mark_dead',
          text: MARK_DEAD,
          values: [claim.deviceId, claim.pushId && pushIdText(claim.pushId), claim.pushIdAt],
        })
        const isReportedAgain = rows[0]?.isMarked === false
        const again = { pushState: 'backoff', retryInMs: REPORTED_AGAIN_MS } as const
        await record(tx, claim, isReportedAgain ? { ...attempt, ...again } : attempt)
        return { isMarked: rows[0]?.isMarked === true }
      })
    },

    async recordNoToken(claim) {
      const { rows } = await database.query<{ outcome: 'no_token' | 'due' }>({
        name: 'command_queue.record_no_token',
        text: RECORD_NO_TOKEN,
        values: [claim.requestId, claim.leaseId, claim.deviceId, instance],
      })
      return rows[0]?.outcome ?? 'lease_lost'
    },

    async handBack(claims) {
      const values = [claims.map((claim) => claim.leaseId), claims.map((claim) => claim.requestId)]
      await database.query({ name: 'command_queue.hand_back', text: HAND_BACK, values })
    },

    async countWaiting() {
      const { rows } = await database.query<{ waiting: number }>({
        name: 'command_queue.count_waiting',
        text: COUNT_WAITING,
      })
      return rows[0]?.waiting ?? 0
    },
  }
}

/** Makes the device's open commands due for push as soon as its limit allows, after a new push identity. */
export async function requestPush(tx: Queryable, deviceId: string): Promise<void> {
  const values = [deviceId]
  await tx.query({ name: 'command_queue.request_push', text: REQUEST_PUSH, values })
}

const COUNT_OPEN = /* sql */ `
  select count(*)::int as "open" from commands where device_id = $1 and state = 'open' and expires_at > now()`

export async function countOpenOf(tx: Queryable, deviceId: string): Promise<number> {
  const name = 'command_queue.count_open_of'
  const { rows } = await tx.query<{ open: number }>({ name, text: COUNT_OPEN, values: [deviceId] })
  return rows[0]?.open ?? 0
}

/** Cancels up to CANCEL_BATCH open commands of a deleted device; the sweep expires the overdue ones. */
export async function cancelSomeOf(
  tx: Queryable,
  deviceId: string,
  by: { readonly admin: string | null; readonly instance: string },
): Promise<readonly { readonly requestId: string; readonly action: string }[]> {
  const { rows } = await tx.query<{ requestId: string; action: string }>({
    name: 'command_queue.cancel_some_of',
    text: CANCEL_SOME_OF,
    values: [deviceId, by.admin, by.instance],
  })
  return rows
}
