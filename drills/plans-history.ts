/** What a fleet that has run for long leaves behind: commands, nearly all ended, each with its story, audit rows, tokens. */
import { createHash } from 'node:crypto'
import type pg from 'pg'

export const DEVICES = 5_000
/** Open commands; the first half is due for push, the rest waits for its time. */
export const OPEN = 500
/** An action that 1 in so many commands has; the others are pings. */
export const RARE_ACTION = { name: 'reboot', oneIn: 5_000 } as const
/** Who made those of the rare action; the others are the admin `drill`'s. */
export const RARE_ADMIN = 'rare'
/** Who did half of it until so many rows ago, and nothing since. */
export const LEFT_ADMIN = 'left'
const LEFT_AFTER = 8_000
/** Who issues enrollment tokens as fast as they can: so many within the hour. */
export const BUSY_ADMIN = 'busy'
export const ISSUED = 1_000
/** A phone that is enrolled again and again; so is called what is changed again and again. */
export const BUSY_ALIAS = 'busy-phone'
/** One entry of the audit log in so many is about a device, the others about commands. */
const ABOUT_A_DEVICE = 4
/** Rows of one statement, so that no fill needs more memory than another. */
const BATCH = 100_000

/** The id of the n-th device, from 1. */
export const deviceId = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`

/** The hash of the n-th device's token. */
export const tokenHash = (n: number) => createHash('sha256').update(`${TOKEN}${n}`).digest()
const TOKEN = 'device-token-'

/** The devices and their open commands, into an empty database. As a superuser: no foreign key is checked. */
export async function fillFleet(db: pg.Client): Promise<void> {
  await db.query('set session_replication_role = replica')
  const statements = [
    `insert into enrollment_tokens (token_id, token_hash, uses_allowed, expires_at, issued_by, request_id)
     values ('${deviceId(0)}', sha256('x'), 1, now(), 'drill', 'r')`,
    `insert into enrollment_tokens (token_id, token_hash, uses_allowed, expires_at, issued_by, issued_at, request_id)
     select gen_random_uuid(), sha256(convert_to('busy-' || n, 'UTF8')), 1, now() + interval '1 day', '${BUSY_ADMIN}',
       now() - make_interval(secs => n), 'r'
     from generate_series(1, ${ISSUED}) n`,
    `insert into enrollment_batches (admin, idempotency_key, content_hash, seed, token_ids)
     select 'drill', 'key-' || n, sha256('x'), sha256(convert_to('seed-' || n, 'UTF8')), array['${deviceId(0)}'::uuid]
     from generate_series(1, ${ISSUED}) n`,
    `insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id, fcm_token, fcm_token_at)
     select ${DEVICE_ID_OF_N}, 'D' || n, 1, '${deviceId(0)}', 'default', 'r', 'push-' || n, now() - interval '1 day'
     from generate_series(1, ${DEVICES}) n`,
    `insert into device_status (device_id, request_id, last_seen_at, effective_at, token_hash, enrollment_no)
     select ${DEVICE_ID_OF_N}, 'r', now() - interval '1 hour', now() - interval '1 hour',
       sha256(convert_to('${TOKEN}' || n, 'UTF8')), 1
     from generate_series(1, ${DEVICES}) n`,
    `insert into device_tokens (token_hash, device_id, enrollment_no, first_used_at, request_id)
     select sha256(convert_to('${TOKEN}' || n, 'UTF8')), ${DEVICE_ID_OF_N}, 1, now(), 'r'
     from generate_series(1, ${DEVICES}) n`,
    `insert into commands (request_id, device_id, action, params, request_hash, admin, created_at, expires_at,
       push_state, next_attempt_at)
     select 'open-' || n, ${DEVICE_ID_OF_N}, 'ping', '{}', '', 'drill', now() - make_interval(secs => n),
       now() + interval '1 day', case when n <= ${OPEN / 2} then 'waiting' else 'backoff' end,
       now() + case when n <= ${OPEN / 2} then '-1 s' else '1 hour' end::interval
     from generate_series(1, ${OPEN}) n`,
    `insert into command_events (request_id, stage, instance)
     select request_id, 'accepted', 'drill' from commands`,
  ]
  for (const statement of statements) await db.query(statement)
}

/**
 * Ended commands numbered from `from` to `to`, both included, older by a minute each, with a row of the audit log and an
 * enrollment token for each; then the statistics of all.
 */
export async function fillEnded(db: pg.Client, from: number, to: number): Promise<void> {
  for (let first = from; first <= to; first += BATCH) {
    const last = Math.min(to, first + BATCH - 1)
    await db.query(
      `insert into commands (request_id, device_id, action, params, request_hash, admin, state, created_at,
         expires_at, ended_at, push_state, attempt, push_attempts, fcm_http_code, fcm_status, outcome, result_at)
       select 'done-' || n, ${DEVICE_ID_OF_N}, case when n % ${RARE_ACTION.oneIn} = 0 then '${RARE_ACTION.name}' else 'ping' end,
         '{"note":"as an admin sent it"}', sha256(convert_to(n::text, 'UTF8')), 'drill',
         case n % 20 when 0 then 'cancelled' when 1 then 'expired' else 'completed' end,
         ${CREATED}, ${CREATED} + interval '1 day', ${CREATED} + interval '1 min', 'sent', 1, 1, 200, 'OK',
         case when n % 20 > 1 then 'success' end, case when n % 20 > 1 then ${CREATED} + interval '1 min' end
       from generate_series(${first}, ${last}) n`,
    )
    await db.query(
      `insert into command_events (request_id, at, stage, code, instance)
       select 'done-' || n, ${CREATED}, stage, null, 'drill'
       from generate_series(${first}, ${last}) n, unnest(array['accepted', 'push_sent', 'result']) stage`,
    )
    await db.query(
      `insert into audit_log (at, admin, what, subject, detail, request_id)
       select ${CREATED}, case when n % ${RARE_ACTION.oneIn} = 0 then '${RARE_ADMIN}'
           when n > ${LEFT_AFTER} and n % 2 = 0 then '${LEFT_ADMIN}' else 'drill' end, case when n % ${ABOUT_A_DEVICE} = 0 then 'device.re_enrolled' else 'command.create' end,
         case when n % 3 = 0 then '${BUSY_ALIAS}' else 'done-' || n end, case when n % ${ABOUT_A_DEVICE} = 0 then jsonb_build_object('alias', ${ALIAS}) end, 'r'
       from generate_series(${first}, ${last}) n`,
    )
    await db.query(
      `insert into enrollment_tokens (token_id, token_hash, alias, uses_allowed, expires_at, issued_by, issued_at, request_id)
       select gen_random_uuid(), sha256(convert_to('enroll-' || n, 'UTF8')), ${ALIAS}, 1, ${CREATED} + interval '1 day',
         'drill', ${CREATED}, 'r'
       from generate_series(${first}, ${last}) n`,
    )
  }
  await db.query('vacuum (analyze)')
}

/** SQL: the id of the n-th row's device. */
export const DEVICE_ID_OF_N = `('00000000-0000-4000-8000-' || lpad(((n - 1) % ${DEVICES} + 1)::text, 12, '0'))::uuid`
/** One phone enrolls, and is enrolled, half the time; the others are enrolled in turn. */
const ALIAS = `case when n % 2 = 0 then '${BUSY_ALIAS}' else 'D' || ((n - 1) % ${DEVICES} + 1) end`
const CREATED = `now() - interval '1 hour' - make_interval(mins => n)`
