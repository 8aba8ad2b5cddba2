/**
 * Every event of the log: its levels, and its own fields in the order of their keys. Types, key order and docs/reference/events.md
 * come from this table. A row's comment says when the event is written; `@act` says what an operator does about it. Links in it
 * start from docs/reference/.
 */
import * as shared from './event-fields.ts'
import type { EventShape } from './field-kinds.ts'

export const EVENTS = {
  /**
   * A registration with a readable body, written once its token was looked up, or could not be. Within the limit of anonymous
   * lines unless the token is active or the registration succeeds. Not written if the token is already known to be dead.
   */
  'register.request': { levels: ['INFO'], fields: shared.REGISTER },
  /** Ends a registration. `result` is `created`, `re_enrolled` or `reissued`. */
  'register.success': { levels: ['INFO'], fields: shared.REGISTER },
  /**
   * Ends a refused registration. `result` is the code.
   * @act Look `result` up in [errors](errors.md#each-4xx). If one phone fails again and again, give it
   * another enrollment token.
   */
  'register.fail': { levels: ['WARN'], fields: shared.REGISTER },
  /** Ends a heartbeat that was stored. `ignored` names unusable fields, and `fcm_token` or `fid` if an older heartbeat brought it. */
  'heartbeat.ingest': { levels: ['INFO'], fields: shared.HEARTBEAT },
  /** Ends a heartbeat within the window of one already stored. */
  'heartbeat.dedup': { levels: ['INFO'], fields: shared.HEARTBEAT },
  /** A command is accepted and durable. */
  'dispatch.request': {
    levels: ['INFO'],
    fields: { ...shared.DISPATCH, admin: 'string', http_request_id: 'optional' },
  },
  /** FCM accepted the command. `push_kind`: the phone was addressed by its `token` or its `fid`. */
  'dispatch.sent': { levels: ['INFO'], fields: shared.DISPATCH_SENT },
  /**
   * One attempt failed; ERROR once `final`.
   * @act Go by `fcm_status`: [Push fails](../../RUNBOOK.md#push-fails). Nothing, unless it is `final`.
   */
  'dispatch.fail': { levels: ['WARN', 'ERROR'], fields: shared.DISPATCH_FAIL },
  /** A phone's result is durable. Ends its request, unless a heartbeat brought it. `ignored` names fields that were unusable. */
  'action_result.ingest': {
    levels: ['INFO'],
    fields: {
      action: 'string',
      outcome: 'string',
      duplicate: 'boolean',
      late: 'boolean',
      ignored: 'optionalStrings',
      http_request_id: 'string',
    },
  },
  /**
   * Ends a successful download (200, 206, 304). `source` is `enrollment`, `ota` (a device token) or
   * `manual` (an admin token).
   */
  'apk.download': { levels: ['INFO'], fields: shared.DOWNLOAD },
  /**
   * Ends a download that was refused, had nothing to send or broke off; ERROR if the service is at fault.
   * @act `client_closed`: nothing, phones resume. `too_slow`: nothing; the client took less than 16 KiB/s while others were
   * refused, and resumes. `apk_none`: publish one. ERROR: as [Why 5xx?](../../RUNBOOK.md#why-5xx)
   */
  'apk.download.fail': {
    levels: ['WARN', 'ERROR'],
    fields: { ...shared.DOWNLOAD, reason: 'string', ...shared.FAILED_CALL },
  },
  /** Ends a scrape. */
  'metrics.scrape': { levels: ['INFO'], fields: { series: 'integer', bytes: 'integer' } },
  /** An enrollment token was created. `reason` `repeat`: shown again to an admin who lost the response. */
  'sec.token.create': { levels: ['INFO'], fields: shared.TOKEN_LIFE },
  /** A registration used an enrollment token. `reason` `reissue`: a lost response was sent again. */
  'sec.token.consume': { levels: ['INFO'], fields: shared.TOKEN_LIFE },
  /** An admin revoked an enrollment token. */
  'sec.token.revoke': { levels: ['INFO'], fields: shared.TOKEN_LIFE },
  /**
   * Someone presented a dead enrollment token. `reason` is `expired`, `revoked`, `exhausted` or `unknown`.
   * @act A phone or a person uses an old enrollment token: create another. Many `unknown`: someone is guessing tokens. With
   * 208 random bits they cannot succeed.
   */
  'sec.token.expired': { levels: ['WARN'], fields: shared.DENIAL },
  /**
   * 429. `reason` names the limit: `tokens_per_hour`, `at_once_per_token`, `apk_per_token`, `apk_per_subnet`,
   * `apk_at_once_per_token` or `apk_at_once_per_subnet`.
   * @act Go by `reason`. `tokens_per_hour`: stop the script that creates too many tokens, or raise the limit.
   * `at_once_per_token`: one token floods the service; other lines with the same `ip` name the phone. Or hundreds of phones
   * that share an enrollment token download at once; they try again. `apk_per_subnet`, `apk_at_once_per_subnet`: many phones
   * share one address, or `TRUSTED_PROXIES` lacks a proxy. `apk_per_token`: a phone downloads again and again, so look at its
   * version check; an enrollment token's limit grows with `uses_allowed`. `apk_at_once_per_token`: a phone starts a download
   * before it drops the last one, or someone occupies downloads; if it goes on, replace the token.
   */
  'sec.token.ratelimit': { levels: ['WARN'], fields: shared.DENIAL },
  /**
   * A signature is not valid. `reason` is `missing`, `malformed`, `stale`, `replayed` or `mismatch`.
   * @act [Why 401?](../../RUNBOOK.md#why-401). If a signature was `replayed` that your callers sent once, someone is
   * listening: rotate the secret.
   */
  'sec.hmac.invalid': { levels: ['WARN'], fields: shared.DENIAL },
  /**
   * A plaintext request was refused.
   * @act The proxy does not send `X-Forwarded-Proto: https`, or is missing from `TRUSTED_PROXIES`. Otherwise a client
   * speaks plain HTTP and has exposed its token: rotate it.
   */
  'sec.https.enforced': { levels: ['WARN'], fields: shared.DENIAL },
  /**
   * A credential was refused. `reason` is `missing`, `malformed`, `unknown`, `superseded`, `wrong_credential`, `scope` or
   * `deleted`.
   * @act [Why 401?](../../RUNBOOK.md#why-401)
   */
  'sec.auth.denied': { levels: ['WARN'], fields: shared.DENIAL },
  /** Ends every other request: DEBUG for health probes, WARN for 4xx. @act WARN is a 4xx: [errors](errors.md#each-4xx) */
  'http.request': {
    levels: ['INFO', 'DEBUG', 'WARN'],
    fields: { method: 'string', reason: 'string', admin: 'string', http_request_id: 'optional' },
  },
  /**
   * Ends every 5xx except downloads. `error` is the code; `stack` is set only with `internal`. If a database call failed,
   * `statement` is its name and `cause` [why](../../RUNBOOK.md#one-statement-not-the-database). `cause` `complex_bodies` is an
   * [overload](errors.md#each-5xx).
   * @act [Why 5xx?](../../RUNBOOK.md#why-5xx)
   */
  'http.error': {
    levels: ['ERROR'],
    fields: {
      method: 'string',
      error: 'string',
      stack: 'string',
      ...shared.FAILED_CALL,
      http_request_id: 'optional',
    },
  },
  /**
   * Once, with every setting; secrets are masked. `database` is null, or the [cause](../../RUNBOOK.md#database-trouble) for
   * which the start waits.
   */
  'service.start': {
    levels: ['INFO'],
    fields: { version: 'string', instance_id: 'string', database: 'string', config: 'object' },
  },
  /** The service accepts requests. */
  'service.ready': { levels: ['INFO'], fields: { startup_ms: 'number' } },
  /** The last line. */
  'service.stop': { levels: ['INFO'], fields: { reason: 'string', drained_ms: 'number' } },
  /**
   * The database went away. `cause` is one of [these](../../RUNBOOK.md#database-trouble); `statement` is the one that found
   * out, if any.
   * @act [Database trouble](../../RUNBOOK.md#database-trouble)
   */
  'db.unavailable': {
    levels: ['ERROR'],
    fields: { error: 'string', cause: 'string', statement: 'optional' },
  },
  /** The database came back. */
  'db.recovered': { levels: ['INFO'], fields: { down_ms: 'number' } },
  /**
   * At a start a sequence was behind its table. It would have returned `from`, which is in use, and returns `to` now.
   * @act Rows arrived without their sequence, by logical replication or a partial restore. Nothing, if you moved the
   * database; otherwise find out what else that restore left out.
   */
  'db.sequence_advanced': {
    levels: ['WARN'],
    fields: { table: 'string', from: 'integer', to: 'integer' },
  },
  /**
   * The database works, but a statement of background work failed. `task` is `dispatch` (push), `jobs` (release), `sweep`
   * (expiry), `count` (the gauge), `partitions` or `prune` (retention). At most once a minute for each task, which tries again next time.
   * @act [One statement, not the database](../../RUNBOOK.md#one-statement-not-the-database)
   */
  'db.statement.fail': {
    levels: ['ERROR'],
    fields: { task: 'string', error: 'string', cause: 'string', statement: 'optional' },
  },
  /**
   * A database server is behind one that was seen before, and gets no writes. `reason` is `timeline` (an old primary),
   * `lsn` (part of its WAL is gone) or `cluster` (another cluster, which gets no reads either). Repeated every 10 min while
   * connections lead there.
   * @act The server lacks acknowledged writes, or is another cluster. Find the server that has them, or accept the loss:
   * [When a server has lost writes](../operate/database.md#when-a-server-has-lost-writes)
   */
  'db.rewound': {
    levels: ['ERROR'],
    fields: { reason: 'string', seen: 'string', found: 'string' },
  },
  /**
   * The setting asks for a synchronous standby, or did at some time since the start, and none is attached.
   * @act Start the standby. While `synchronous_standby_names` is set, commits wait for it, and heartbeats get 503. If the
   * setting is empty, commits do not wait, and a failover now may lose acknowledged writes.
   */
  'db.sync_standby_missing': { levels: ['WARN'], fields: { synchronous_standby_names: 'string' } },
  /** A synchronous standby is attached again. */
  'db.sync_standby_attached': { levels: ['INFO'], fields: { missing_ms: 'number' } },
  /**
   * Lines were lost since the last such line; the count is exact. `anonymous` counts the anonymous requests among them.
   * `suppressed` (last, only above 0) adds up what they would have counted.
   * @act [Lines are missing](../../RUNBOOK.md#lines-are-missing). If `anonymous` equals `dropped`, a flood of anonymous
   * requests lost only its own lines.
   */
  'log.dropped': {
    levels: ['WARN'],
    fields: { dropped: 'integer', by_level: 'object', anonymous: 'integer' },
  },
  /**
   * A send or the self-test found that FCM refuses us as a whole. `token clearing only: …`: FCM calls so many push tokens
   * dead that none is believed; sends continue. `a fault of ours: …`: the statement that failed.
   * @act Go by its `reason`: [Push fails](../../RUNBOOK.md#push-fails). `a fault of ours: …` names the statement: commands
   * cannot be claimed or recorded; report it.
   */
  'push.paused': { levels: ['ERROR'], fields: { reason: 'string' } },
  /** FCM accepts messages again. */
  'push.resumed': { levels: ['INFO'], fields: {} },
  /**
   * The self-test at the start got no verdict from FCM: `reason` says why. Sends are tried all the same.
   * @act Look for an outage, a firewall or a proxy between this machine and FCM: [Push fails](../../RUNBOOK.md#push-fails).
   */
  'push.self_test': { levels: ['WARN'], fields: { reason: 'string' } },
  /**
   * FCM calls a push identity, a token or a FID, dead.
   * @act Nothing. Many at once: [killed by mistake](../operate/push.md#push-tokens-killed-by-mistake)
   */
  'push.token_dead': { levels: ['WARN'], fields: { fcm_status: 'string' } },
  /**
   * A command's time is over. `reason` is `ttl`.
   * @act The phone was not there in time: [Did the command run?](../../RUNBOOK.md#did-the-command-run). Send it again with
   * a longer `ttl_s`.
   */
  'command.expired': { levels: ['WARN'], fields: shared.COMMAND_END },
  /** A command was cancelled. `reason` is `admin`, `device_deleted` or `job_aborted`. */
  'command.cancelled': { levels: ['INFO'], fields: shared.COMMAND_END },
  /** A job was created, with all its members. */
  'job.create': { levels: ['INFO'], fields: { ...shared.JOB, http_request_id: 'optional' } },
  /**
   * A job releases nothing more until it is resumed; released commands continue. `reason` is `admin`, or `threshold` (WARN).
   * @act `threshold`: so many members failed that something is wrong with the action or the selection. Read the results,
   * `GET /admin/jobs/{job_id}/commands?status=failed`, then resume or abort the job.
   */
  'job.pause': { levels: ['INFO', 'WARN'], fields: shared.JOB },
  /** An admin resumed a job. */
  'job.resume': { levels: ['INFO'], fields: shared.JOB },
  /** An admin aborted a job: members that waited are cancelled, and open commands unless the admin said otherwise. */
  'job.abort': { levels: ['INFO'], fields: shared.JOB },
  /** Every member of a job has ended. */
  'job.done': { levels: ['INFO'], fields: shared.JOB },
  /** A day's partition of heartbeats was created. Several in a row, as at the first start: `last` is the last of them. */
  'partition.create': { levels: ['INFO'], fields: shared.PARTITIONS },
  /** Retention dropped a day, or several in a row up to `last`. */
  'partition.drop': { levels: ['INFO'], fields: shared.PARTITIONS },
  /**
   * Creating or dropping a partition failed.
   * @act Read `error`; the service retries every hour. Heartbeats are stored meanwhile:
   * [Maintenance](../operate/database.md#maintenance)
   */
  'partition.fail': { levels: ['ERROR'], fields: shared.PARTITION },
  /** A build is stored, `live` or `staged` (`state`). `source` is `manual`, an admin token. */
  'apk.publish': { levels: ['INFO'], fields: shared.BUILD },
  /** A staged build is live. */
  'apk.release': { levels: ['INFO'], fields: shared.BUILD },
  /** A build was withdrawn. */
  'apk.withdraw': { levels: ['INFO'], fields: shared.BUILD },
  /**
   * A build of a former release cannot be read from its stored bytes, or its APK has another version code; `reason` says
   * which. It stays as it is.
   * @act [Builds of a former release](../operate/apks.md#builds-of-a-former-release)
   */
  'apk.read.fail': {
    levels: ['WARN'],
    fields: { build_id: 'string', version_code: 'integer', reason: 'string' },
  },
  /**
   * `reason` `corrupt`: a cached file held other bytes and was replaced. `disk`: the cache cannot be used; downloads read
   * the database, and the cache is tried again after a minute. ERROR `database`: the stored bytes differ from the published
   * ones; their downloads break off.
   * @act [Downloads and the cache](../operate/apks.md#downloads-and-the-cache)
   */
  'apk.cache.fail': {
    levels: ['WARN', 'ERROR'],
    fields: { build_id: 'string', reason: 'string', error: 'string' },
  },
  /** Labels of a device were changed, or of `devices` devices of a selection. */
  'device.label': { levels: ['INFO'], fields: { admin: 'string', devices: 'integer' } },
  /** A device was deleted. */
  'device.delete': { levels: ['INFO'], fields: { admin: 'string' } },
  /** A deleted device was erased: nothing is known of it but its id. */
  'device.erase': { levels: ['INFO'], fields: { admin: 'string' } },
  /**
   * The service issued this device token, but the database does not know it: 503, never 401.
   * At most 10 a second are logged.
   * @act The database forgot the phone, or is another one: [backup.md](../operate/backup.md)
   */
  'device.unknown_to_database': { levels: ['ERROR'], fields: {} },
  /**
   * The first request with `X-Forwarded-*`, `Forwarded` or `X-Real-IP` from a peer that `TRUSTED_PROXIES` does not list.
   * Once per process.
   * @act If `ip` is your proxy, add it to `TRUSTED_PROXIES` and restart. Until then all clients share the proxy's address
   * in the log, the audit log and the limits, and requests that reached the proxy over HTTP get 403. Otherwise nothing: a
   * client made the header up.
   */
  'proxy.untrusted': { levels: ['WARN'], fields: {} },
} as const satisfies Record<string, EventShape>

export type EventName = keyof typeof EVENTS
