/**
 * Finds due commands: for push by `next_attempt_at`, for expiry by `expires_at`. Both indexes keep dead entries of
 * commands that were due, so a DueScan chooses the part that each statement reads.
 */

import { DueScan, type ScanStep } from '../../domain/delivery/due-scan.ts'
import type { Claim, Outbox } from '../../domain/delivery/outbox.ts'
import { failedCallOf } from '../../domain/failed-call.ts'
import { PUSH_ID_JSON } from '../devices/push-id.ts'
import type { Database, Query } from '../postgres/pool.ts'

export interface Expired {
  readonly requestId: string
  readonly deviceId: string
  readonly alias: string
  readonly action: string
  readonly admin: string
}

export interface OutboxExpiry {
  /** Expires at most `limit` open commands. */
  expire(limit: number): Promise<readonly Expired[]>
  /** Another call may find more. */
  hasMoreExpired(): boolean
}

/** Longest transaction that accepts a command or requests its push: each statement has 0.9 s. */
const ACCEPTED_WITHIN_MS = 5_000
/** Largest share of time for scans of everything due. Beside a held snapshot they then read less than all other scans. */
const PAST_SHARE_OF_PUSH = 0.001
const PAST_SHARE_OF_EXPIRY = 0.0004

/** The part of the index on (`column`, request_id) that one step scans. $n to $n + 3: scanValues. */
const dueRange = (column: string, n: number) => /* sql */ `
  ${column} <= now() - make_interval(secs => $${n + 3}) and (${column}, request_id) >
    (coalesce($${n}::timestamptz, now() - make_interval(secs => $${n + 2}), '-infinity'), coalesce($${n + 1}, ''))`

function scanValues({ after, fromAgeMs, toAgeMs }: ScanStep): readonly unknown[] {
  const fromAgeS = fromAgeMs === null ? null : fromAgeMs / 1_000
  return [after?.at ?? null, after?.id ?? null, fromAgeS, toAgeMs / 1_000]
}

/** Longer than the slowest send, 54 s: twice (a 401 is retried) a token in 12 s and FCM_TIMEOUT_MS of at most 15 s. */
const LEASE_S = 60

/**
 * Traps:
 * - `materialized`: when it was inlined, a nested loop once claimed 2,590 rows for a limit of 10.
 * - The push identity is the snapshot's and may have been set since. So a command without one is leased too, and
 *   RECORD_NO_TOKEN decides.
 * - `due_at` is the snapshot's as well, because the index was read by it; the locked row may be newer.
 * - `ended_at` instead of the state: only commands_due can serve it (sql/0019).
 * - `lateral … offset 0`: a join of few commands with few thousand devices hashed all of these for each claim.
 * - `is distinct from` hides the selectivity. If the planner expected one or two rows, a table scan or a sort would look
 *   cheaper than the index.
 */
const CLAIM = /* sql */ `
  with due as materialized (
    select request_id from commands
    where ${dueRange('next_attempt_at', 3)}
      and (ended_at is null) is distinct from false and (expires_at > now()) is distinct from false
    order by next_attempt_at, request_id
    limit $1
    for update skip locked),
  target as materialized (
    select u.request_id, k.next_attempt_at as due_at, d.alias, d.enrollment_no, d.hmac_secret_id,
      case when d.fcm_token_died_at is null then ${PUSH_ID_JSON} end as push_id, d.fcm_token_at::text as push_id_at
    from due u join commands k using (request_id)
      cross join lateral (select * from devices where device_id = k.device_id offset 0) d),
  claimed as (
    update commands c set
      push_state = 'sending',
      attempt = c.attempt + (t.push_id is not null)::int,
      push_attempts = c.push_attempts + (t.push_id is not null)::int,
      lease_id = $2::uuid,
      lease_until = now() + make_interval(secs => ${LEASE_S}),
      next_attempt_at = now() + make_interval(secs => ${LEASE_S})
    from target t where c.request_id = t.request_id
    returning c.request_id, c.device_id, c.action, c.params, c.attempt, c.push_failures, c.expires_at,
      t.alias, t.push_id, t.push_id_at, t.enrollment_no, t.hmac_secret_id, t.due_at)
  select request_id as "requestId", $2::uuid as "leaseId", device_id as "deviceId", alias as "alias",
    action as "action", params as "params", attempt as "attempt", push_failures as "pushFailures",
    expires_at as "expiresAt", push_id as "pushId", push_id_at as "pushIdAt", enrollment_no as "enrollmentNo",
    hmac_secret_id as "hmacSecretId", due_at::text as "dueAt"
  from claimed order by due_at, request_id`

/**
 * > -infinity: required by the sweep's index, which no other statement can use (sql/0008). The array: a hash join
 * read a table of 60,000 rows for a batch of 500.
 */
const EXPIRE = /* sql */ `
  with due as materialized (
    select request_id, expires_at from commands
    where state = 'open' and ${dueRange('expires_at', 3)} and expires_at > '-infinity'
    order by expires_at, request_id limit $1 for update skip locked),
  ended as (
    update commands c set state = 'expired', ended_at = now(), next_attempt_at = null
    from due where c.request_id = due.request_id and c.request_id = any (array(select request_id from due))
    returning c.request_id, c.device_id, c.action, c.admin, due.expires_at),
  told as (
    insert into command_events (request_id, stage, instance) select request_id, 'expired', $2 from ended)
  select e.request_id as "requestId", e.device_id as "deviceId", d.alias as "alias",
    e.action as "action", e.admin as "admin", e.expires_at::text as "dueAt"
  from ended e join devices d using (device_id) order by e.expires_at, e.request_id`

type DueRow = { readonly requestId: string; readonly dueAt: string }

export function dueCommands(
  database: Database,
  instance: string,
  nowMs: () => number,
): Pick<Outbox, 'claim' | 'hasMoreDue'> & OutboxExpiry {
  const pushScan = new DueScan({ farMs: ACCEPTED_WITHIN_MS, pastShare: PAST_SHARE_OF_PUSH })
  // A command lives for at least 30 s, so none commits after its expiry.
  const expiryScan = new DueScan({ farMs: 0, pastShare: PAST_SHARE_OF_EXPIRY })

  /** The rows of the next step or, if it finds none, of the one after it. */
  async function scanForRows<Row extends DueRow>(scan: DueScan, query: Query, limit: number) {
    const first = await scanOnce<Row>(scan, query, limit)
    return first.length > 0 || !scan.hasMore ? first : scanOnce<Row>(scan, query, limit)
  }

  async function scanOnce<Row extends DueRow>(
    scan: DueScan,
    { name, text, values = [] }: Query,
    limit: number,
  ): Promise<readonly Row[]> {
    const step = scan.next(nowMs())
    try {
      const query = { name, text, values: [...values, ...scanValues(step)] }
      const { rows } = await database.query<Row>(query)
      const end = rows.at(-1)
      const last = end && { at: end.dueAt, id: end.requestId }
      scan.found(step, { isFull: rows.length === limit, last }, nowMs())
      return rows
    } catch (error) {
      const { cause } = failedCallOf(error)
      // `silent`: through PgBouncer our own timeout may end it.
      const isTooSlow = cause === 'too_slow' || cause === 'silent'
      if (scan.failed(step, isTooSlow, nowMs())) return []
      throw error
    }
  }

  return {
    claim(limit, leaseId) {
      const query = { name: 'command_queue.claim', text: CLAIM, values: [limit, leaseId] }
      return scanForRows<Claim & DueRow>(pushScan, query, limit)
    },
    hasMoreDue: () => pushScan.hasMore,
    expire(limit) {
      const query = { name: 'command_queue.expire', text: EXPIRE, values: [limit, instance] }
      return scanForRows<Expired & DueRow>(expiryScan, query, limit)
    },
    hasMoreExpired: () => expiryScan.hasMore,
  }
}
