/**
 * Which test file of this folder compares which lines: each event of the vocabulary, once. A variant is a
 * level, or a level and the line's `result`, `reason` or `error`; every one named here must be compared.
 */
import type { EventName } from '../../src/telemetry/log/events.ts'

export type Variants = Readonly<Partial<Record<EventName, readonly string[]>>>

export const THEMES = {
  registration: {
    'register.request': ['INFO'],
    'register.success': ['INFO created', 'INFO re_enrolled', 'INFO reissued'],
    'register.fail': [
      'WARN token_unknown',
      'WARN token_expired',
      'WARN token_revoked',
      'WARN token_exhausted',
      'WARN unauthenticated',
      'WARN alias_mismatch',
      'WARN alias_taken',
      'WARN bad_json',
      'WARN client_closed',
    ],
    'sec.token.create': ['INFO'],
    'sec.token.consume': ['INFO', 'INFO reissue'],
    'sec.token.revoke': ['INFO'],
    'sec.token.expired': ['WARN expired', 'WARN revoked', 'WARN exhausted', 'WARN unknown'],
    'sec.token.ratelimit': ['WARN tokens_per_hour'],
  },
  devices: {
    'heartbeat.ingest': ['INFO'],
    'heartbeat.dedup': ['INFO'],
    'device.label': ['INFO'],
    'device.delete': ['INFO'],
    'device.erase': ['INFO'],
    'device.unknown_to_database': ['ERROR'],
  },
  denials: {
    'sec.auth.denied': [
      'WARN missing',
      'WARN malformed',
      'WARN unknown',
      'WARN superseded',
      'WARN wrong_credential',
      'WARN scope',
      'WARN deleted',
    ],
    'sec.hmac.invalid': [
      'WARN missing',
      'WARN malformed',
      'WARN stale',
      'WARN replayed',
      'WARN mismatch',
    ],
    'sec.https.enforced': ['WARN plaintext'],
    'proxy.untrusted': ['WARN'],
  },
  commands: {
    'dispatch.request': ['INFO'],
    'action_result.ingest': ['INFO'],
    'command.expired': ['WARN ttl'],
    'command.cancelled': ['INFO admin', 'INFO device_deleted', 'INFO job_aborted'],
    'job.create': ['INFO'],
    'job.pause': ['INFO admin', 'WARN threshold'],
    'job.resume': ['INFO'],
    'job.abort': ['INFO admin'],
    'job.done': ['INFO'],
  },
  push: {
    'dispatch.sent': ['INFO'],
    'dispatch.fail': ['WARN', 'ERROR'],
    'push.paused': ['ERROR'],
    'push.resumed': ['INFO'],
    'push.self_test': ['WARN'],
    'push.token_dead': ['WARN'],
  },
  downloads: {
    'apk.publish': ['INFO'],
    'apk.release': ['INFO'],
    'apk.withdraw': ['INFO'],
    'apk.read.fail': ['WARN'],
    'apk.cache.fail': ['WARN corrupt', 'WARN disk', 'ERROR database'],
    'apk.download': ['INFO'],
    'apk.download.fail': [
      'WARN apk_none',
      'WARN build_unknown',
      'WARN token_revoked',
      'WARN unauthenticated',
      'WARN range_not_satisfiable',
      'WARN precondition_failed',
      'WARN client_closed',
      'ERROR internal',
      'ERROR db_unavailable',
    ],
  },
  requests: {
    'metrics.scrape': ['INFO'],
    'http.request': ['DEBUG', 'INFO', 'WARN not_found', 'WARN client_closed'],
    'http.error': ['ERROR internal', 'ERROR db_unavailable', 'ERROR transfer_encoding'],
  },
  service: {
    'service.start': ['INFO'],
    'service.ready': ['INFO'],
    'service.stop': ['INFO SIGTERM', 'INFO SIGINT'],
    'db.unavailable': ['ERROR'],
    'db.recovered': ['INFO'],
    'db.sequence_advanced': ['WARN'],
    'db.statement.fail': ['ERROR'],
    'log.dropped': ['WARN'],
    'partition.create': ['INFO'],
    'partition.drop': ['INFO'],
    'partition.fail': ['ERROR'],
  },
  servers: {
    'db.rewound': ['ERROR timeline', 'ERROR lsn', 'ERROR cluster'],
  },
  standbys: {
    'db.sync_standby_missing': ['WARN'],
    'db.sync_standby_attached': ['INFO'],
  },
} as const satisfies Readonly<Record<string, Variants>>

export type Theme = keyof typeof THEMES
