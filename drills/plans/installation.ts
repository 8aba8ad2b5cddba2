/** The data of a fleet after months, of any size in fixed proportions, inserted by set-based SQL. */
import { createHash } from 'node:crypto'
import type pg from 'pg'
import { seededDeviceId, seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { HMAC_SECRET } from '../../testkit/service-settings.ts'

/** Rows of each kind. Growing an installation adds to each; older rows come last. */
export interface Installation {
  readonly devices: number
  /** Enrolled after all others, then deleted. */
  readonly deleted: number
  /** Extra ended commands of one device (BUSY). */
  readonly busy: number
  /** Open commands of one device (CROWDED). */
  readonly crowded: number
  /** Open commands of all statuses. */
  readonly open: number
  /** Open commands due for push, created at once. */
  readonly due: number
  /** Due commands that have expired and were not swept yet. */
  readonly unswept: number
  readonly ended: number
  readonly audit: number
  readonly tokens: number
  readonly downloads: number
  readonly builds: number
  /** Members of one running job, half of them released. */
  readonly members: number
  /** Ended jobs of OLD_MEMBERS each. */
  readonly jobs: number
  /** Rows of fleet_events. */
  readonly feed: number
}

export const NOTHING: Installation = {
  ...{ devices: 0, deleted: 0, busy: 0, crowded: 0, open: 0, due: 0, unswept: 0 },
  ...{ ended: 0, audit: 0, tokens: 0, downloads: 0, builds: 0, members: 0, jobs: 0 },
  feed: 0,
}

/**
 * With 300,000 devices: 3,000,000 commands, 30,000 of them open, 8,400,000 events, 2,000,000 audit rows, 200,000
 * tokens.
 */
export function installationOf(devices: number): Installation {
  const share = (ofLargest: number) => Math.round((ofLargest * devices) / LARGEST)
  const open = Math.max(MIN_OPEN, share(30_000))
  return {
    ...NOTHING,
    devices,
    deleted: share(20_000),
    busy: share(10_000),
    crowded: share(3_000),
    open,
    ended: share(3_000_000) - open,
    audit: share(2_000_000),
    tokens: share(200_000),
    downloads: share(500_000),
    builds: share(2_000),
    members: share(200_000),
    jobs: Math.max(MIN_JOBS, share(10_000)),
    feed: share(2_000_000),
  }
}

export const LARGEST = 300_000
/** Enough for a full claim. */
const MIN_OPEN = 500
/** Enough for an index to be worth it. */
const MIN_JOBS = 2_000
/** Per device. */
export const HEARTBEATS = 67
/** Days of ended commands, audit rows and enrollment tokens; PRUNED_DAYS and older are pruned. */
export const DAYS = 90
export const PRUNED_DAYS = 60

export const BUSY = 2
export const CROWDED = 3
/** The action of one command in so many; the others are pings. */
export const RARE_ACTION = { name: 'reboot', oneIn: 5_000 } as const
/** Admin of the rare action's commands; the others are by `drill`. */
export const RARE_ADMIN = 'rare'
/** Admin of half of them until some time ago, and of none since. */
export const LEFT_ADMIN = 'left'
const LEFT_AFTER = 8_000
/** Admin who issues enrollment tokens at the highest rate. */
export const BUSY_ADMIN = 'busy'
export const ISSUED = 1_000
/** Enrollment tokens of each batch that an Idempotency-Key names. */
export const BATCH_OF_TOKENS = 100
/** A phone that enrolls again and again; also the subject of one audit row in so many. */
export const BUSY_ALIAS = 'busy-phone'
const BUSY_ONE_IN = 50
/** One audit row in so many is about a device, the others about commands. */
const ABOUT_A_DEVICE = 4
export const BUILD_TYPE = 'debug'
export const RARE_BUILD = { type: 'release', oneIn: 500 } as const
/** Of each build; a MiB each. */
const CHUNKS = 50
export const SILENT_ONE_IN = 1_000
export const BIG_JOB = { jobNo: '1000000', jobId: 'big' } as const
/** Below the numbers of ended jobs. */
const ENDED_JOBS_FROM = 2_000_000
const OLD_MEMBERS = 5
/** Numbers above all others. */
const DELETED_FROM = 1_000_000_000
/** Rows per statement, which bounds its memory. */
const BATCH = 100_000
const DAY_S = 86_400

export const deviceId = seededDeviceId

/** The hash of the n-th device's token. */
export const tokenHash = (n: number) =>
  createHash('sha256').update(seededToken(HMAC_SECRET, n)).digest()

/** The hash of a filled enrollment token: `busy-1` to `busy-1000` are unbound and active, `bound-1` is for S1. */
export const enrollmentHash = (name: string) => createHash('sha256').update(name).digest()

/** Inserts what `to` has more than `from`, spread over DAYS like the rows of `whole`, which it may become. */
export async function grow(
  db: pg.Client,
  from: Installation,
  to: Installation,
  whole: Installation = to,
): Promise<void> {
  if (from.devices === 0) await fillOnce(db)
  await seedFleet(db, HMAC_SECRET, to.devices, { from: from.devices + 1, isReporting: true })
  await db.query('set session_replication_role = replica') // seedFleet ends it
  for (const [kind, inserts] of insertsOf(to, whole)) {
    for (let first = from[kind] + 1; first <= to[kind]; first += BATCH) {
      const last = Math.min(to[kind], first + BATCH - 1)
      for (const insert of inserts) await db.query(insert, [first, last])
    }
  }
  await db.query(SILENCE, [from.devices, to.devices])
  await db.query('reset session_replication_role')
  await db.query('vacuum (analyze)')
}

/** The row numbers of an insert. */
const ROWS = /* sql */ `from generate_series($1::int, $2::int) n`
/** SQL: the id of the device with number `n`. */
export const deviceIdSql = (n: string) =>
  `('01a20000-0000-7000-8000-' || lpad(to_hex(${n}), 12, '0'))::uuid`

/** One device in SILENT_ONE_IN was last heard of a day ago. */
const SILENCE = /* sql */ `
  update device_status set last_seen_at = now() - interval '1 day'
  where device_id = any (array(
    select ${deviceIdSql(`n * ${SILENT_ONE_IN}`)}
    from generate_series($1::int / ${SILENT_ONE_IN} + 1, $2::int / ${SILENT_ONE_IN}) n))`

async function fillOnce(db: pg.Client): Promise<void> {
  const token = `insert into enrollment_tokens
    (token_id, token_hash, alias, uses_allowed, expires_at, issued_by, issued_at, request_id)`
  for (const insert of [
    `${token} select gen_random_uuid(), sha256(convert_to('busy-' || n, 'UTF8')), null, 1, now() + interval '1 day',
       '${BUSY_ADMIN}', now() - make_interval(secs => n), 'r' ${ROWS}`,
    `${token} select gen_random_uuid(), sha256('bound-1'), 'S1', 1, now() + interval '1 day', 'drill',
       now() - interval '2 hours', 'r' ${ROWS} where n = $1::int`,
    `insert into enrollment_batches (admin, idempotency_key, content_hash, seed, token_ids, created_at)
     select 'drill', 'key-' || n, sha256('x'), sha256(convert_to('seed-' || n, 'UTF8')), made.token_ids,
       now() - make_interval(mins => n * 2) ${ROWS}, (select array(select token_id from enrollment_tokens
         where issued_by = '${BUSY_ADMIN}' limit ${BATCH_OF_TOKENS})) made (token_ids)`,
    `insert into used_signatures (signature, used_at)
     select sha256(convert_to('used-' || n, 'UTF8')), now() - make_interval(days => n / 8) ${ROWS}`,
  ]) {
    await db.query(insert, [1, ISSUED])
  }
}

type Kind = Exclude<keyof Installation, 'devices'>

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table
function insertsOf(
  to: Installation,
  whole: Installation,
): readonly (readonly [Kind, readonly string[]])[] {
  const device = deviceIdSql(`(n - 1) % ${to.devices} + 1`)
  const ago = (count: number) =>
    `now() - interval '1 hour' - make_interval(secs => n * ${(DAYS * DAY_S) / Math.max(1, count)})`
  const alias = `case when n % ${BUSY_ONE_IN} = 0 then '${BUSY_ALIAS}' else 'S' || ((n - 1) % ${to.devices} + 1) end`
  const made = ago(whole.ended)
  const issued = ago(whole.tokens)
  const deleted = `now() - make_interval(secs => n * ${(DAYS * DAY_S) / Math.max(1, whole.deleted)})`
  const gone = deviceIdSql(`${DELETED_FROM} + n`)
  return [
    [
      'deleted',
      [
        `insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id, deleted_at)
         select ${gone}, 'X' || n, 1, '${seededDeviceId(0)}', 'default', 'r', ${deleted} ${ROWS}`,
        `insert into device_status (device_id, is_deleted) select ${gone}, true ${ROWS}`,
        `insert into device_tokens (token_hash, device_id, enrollment_no, dead_at, dead_reason, request_id)
         select sha256(convert_to('dead-' || n, 'UTF8')), ${device}, 1, ${deleted}, 'superseded', 'r' ${ROWS}`,
      ],
    ],
    ['busy', [ended('busy', deviceIdSql(String(BUSY)), 'now() - make_interval(secs => n)')]],
    [
      'crowded',
      [
        open('crowded', deviceIdSql(String(CROWDED)), {
          pushState: `'backoff'`,
          nextAttempt: `now() + interval '1 hour'`,
        }),
      ],
    ],
    ['open', [open('open', device, MIXED), events('open', 'now()', `array['accepted']`)]],
    ['due', [open('due', device), events('due', 'now()', `array['accepted']`)]],
    [
      'unswept',
      [
        open('unswept', device, { expires: `now() - interval '1 s'` }),
        events('unswept', 'now()', `array['accepted']`),
      ],
    ],
    [
      'ended',
      [
        ended('done', device, made),
        events(
          'done',
          made,
          `case when n % 5 = 0 then array['accepted', 'push_sent'] else array['accepted', 'push_sent', 'result'] end`,
        ),
      ],
    ],
    [
      'audit',
      [
        `insert into audit_log (at, admin, what, subject, request_id, detail)
         select ${ago(whole.audit)}, case when n % ${RARE_ACTION.oneIn} = 0 then '${RARE_ADMIN}'
             when n > ${LEFT_AFTER} and n % 2 = 0 then '${LEFT_ADMIN}' else 'drill' end,
           case when n % ${ABOUT_A_DEVICE} = 0 then 'device.re_enrolled' else 'command.create' end,
           case when n % ${BUSY_ONE_IN} = 0 then '${BUSY_ALIAS}' else 'done-' || n end, 'r',
           case when n % ${ABOUT_A_DEVICE} = 0 then jsonb_build_object('alias', ${alias})
             else '{"action":"ping","ttl_s":86400}' end ${ROWS}`,
      ],
    ],
    [
      'tokens',
      [
        `insert into enrollment_tokens (token_id, token_hash, alias, uses_allowed, uses_consumed, expires_at, revoked_at,
           issued_by, issued_at, request_id)
         select gen_random_uuid(), sha256(convert_to('enroll-' || n, 'UTF8')), ${alias}, 1, (n % 3 > 0)::int, ${issued} + interval '1 day',
           case when n % 100 = 0 then ${issued} + interval '1 min' end, 'drill', ${issued}, 'r' ${ROWS}`,
      ],
    ],
    [
      'downloads',
      [
        `insert into apk_download_events (event_id, build_id, source, device_id, request_id, status_code, started_at, ended_at,
           bytes_sent, completed)
         select gen_random_uuid(), 'build-1', 'ota', ${device}, 'r', 200, ${ago(whole.downloads)}, ${ago(whole.downloads)},
           1, true ${ROWS}`,
      ],
    ],
    [
      'builds',
      [
        `insert into apk_builds (build_id, build_type, version_code, sha256, size_bytes, chunk_count, published_at,
           published_by, withdrawn_at, request_id, package, signing, signers)
         select 'build-' || n, case when n % ${RARE_BUILD.oneIn} = 0 then '${RARE_BUILD.type}' else '${BUILD_TYPE}' end,
           n, sha256('b'), 1, ${CHUNKS}, ${ago(whole.builds)}, 'drill', case when n % 10 = 0 then now() end, 'r', 'com.example.app', 'v2',
           array[repeat('ab', 32)] ${ROWS}`,
        `insert into apk_chunks (build_id, chunk_no, bytes) select 'build-' || n, no, 'x' ${ROWS}
           cross join generate_series(0, ${CHUNKS - 1}) no`,
      ],
    ],
    ['members', jobMembers(to, device)],
    ['jobs', endedJobs(device, ago(whole.jobs))],
    [
      'feed',
      [
        `insert into fleet_events (at, type, subject, device_id, detail)
         select now() - make_interval(secs => (${whole.feed} - n) * ${(DAYS * DAY_S) / Math.max(1, whole.feed)}),
           case when n % 10 = 0 then 'token.created' else 'command.ended' end, 'done-' || n,
           case when n % 10 <> 0 then ${device} end, '{"action":"ping","state":"completed","outcome":"success"}' ${ROWS}`,
      ],
    ],
  ]
}

const JOB = `insert into jobs (job_no, job_id, request_hash, content_hash, selection, action, params, ttl_s, min_results,
    admin, request_id, state, devices, released, created_at, changed_at, ended_at, is_settled)
  overriding system value`

function jobMembers({ members }: Installation, device: string): readonly string[] {
  const half = Math.floor(members / 2)
  const made = `now() - interval '1 hour'`
  return [
    `${JOB} select ${BIG_JOB.jobNo}, '${BIG_JOB.jobId}', '', '', '', 'ping', '{}', 86400, 10, 'drill', 'r', 'running',
       ${members}, ${half}, ${made}, ${made}, null, false ${ROWS} where n = 1`,
    `insert into job_members (job_no, n, device_id) select ${BIG_JOB.jobNo}, n, ${device} ${ROWS}`,
    `insert into commands (request_id, device_id, action, params, request_hash, admin, created_at, expires_at, push_state,
       state, ended_at, outcome, result_at, job_no, job_n)
     select '${BIG_JOB.jobId}.' || n, ${device}, 'ping', '{}', '', 'drill', ${made}, now() + interval '1 day',
       case when n % 10 = 9 then 'gave_up' else 'sent' end,
       case when n % 10 < 8 then 'completed' else 'open' end, case when n % 10 < 8 then now() end,
       case when n % 1000 = 0 then 'rejected' when n % 10 < 8 then 'success' end,
       case when n % 10 < 8 then now() end, ${BIG_JOB.jobNo}, n ${ROWS} where n <= ${half}`,
  ]
}

function endedJobs(device: string, ended: string): readonly string[] {
  return [
    `${JOB} select ${ENDED_JOBS_FROM} + n, 'old-' || n, '', '', '', 'ping', '{}', 86400, 10, 'drill', 'r', 'done',
       ${OLD_MEMBERS}, ${OLD_MEMBERS}, ${ended}, ${ended}, ${ended}, true ${ROWS}`,
    `insert into job_members (job_no, n, device_id)
     select ${ENDED_JOBS_FROM} + n, member, ${device} ${ROWS} cross join generate_series(1, ${OLD_MEMBERS}) member`,
  ]
}

function ended(name: string, device: string, created: string): string {
  return `insert into commands (request_id, device_id, action, params, request_hash, admin, state, created_at,
      expires_at, ended_at, push_state, attempt, push_attempts, fcm_http_code, fcm_status, outcome, result_at)
    select '${name}-' || n, ${device}, case when n % ${RARE_ACTION.oneIn} = 0 then '${RARE_ACTION.name}' else 'ping' end,
      '{"note":"as an admin sent it"}', sha256(convert_to(n::text, 'UTF8')), 'drill',
      case n % 20 when 0 then 'cancelled' when 1 then 'expired' else 'completed' end,
      ${created}, ${created} + interval '1 day', ${created} + interval '1 min', 'sent', 1, 1, 200, 'OK',
      case when n % 20 > 1 then 'success' end, case when n % 20 > 1 then ${created} + interval '1 min' end ${ROWS}`
}

interface Opened {
  readonly pushState?: string
  readonly nextAttempt?: string
  readonly delivered?: string
  readonly expires?: string
}

/** Every status of an open command; push_failed is the rarest. */
const MIXED: Opened = {
  pushState: `case when n % 1000 = 0 then 'gave_up' when n % 10 in (1, 2, 3, 4, 5) then 'sent'
    when n % 10 = 6 then 'backoff' else 'waiting' end`,
  nextAttempt: `case when n % 1000 = 0 or n % 10 in (1, 2, 3, 4, 5) then null
    when n % 10 = 6 then now() + interval '1 hour' else now() - interval '1 s' end`,
  delivered: `case when n % 10 in (4, 5) then now() - interval '1 min' end`,
}

function open(name: string, device: string, opened: Opened = {}): string {
  const { pushState = `'waiting'`, nextAttempt = `now() - interval '1 s'` } = opened
  const { delivered = 'null::timestamptz', expires = `now() + interval '1 day'` } = opened
  return `insert into commands (request_id, device_id, action, params, request_hash, admin, created_at, expires_at,
      push_state, next_attempt_at, delivered_at)
    select '${name}-' || n, ${device}, 'ping', '{}', '', 'drill', now() - make_interval(secs => n * 0.01), ${expires},
      ${pushState}, ${nextAttempt}, ${delivered} ${ROWS}`
}

function events(name: string, at: string, stages: string): string {
  return `insert into command_events (request_id, at, stage, instance)
    select '${name}-' || n, ${at}, unnest(${stages}), 'drill' ${ROWS}`
}
