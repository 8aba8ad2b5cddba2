/**
 * Every setting, one row each, in the order of the `service.start` line. Parsing, masking, .env.example and
 * docs/reference/settings.md derive from it (`npm run docs`). A row's comment is its sentence there (links start
 * from docs/reference/), a `//` line a heading.
 * To add a setting, add a row.
 */
import { PACKAGE_NAME } from '../domain/apk-facts.ts'
import { maskedUrl, readDatabaseUrl } from './database.ts'
import type { EnvReader } from './env-reader.ts'
import {
  DEFAULT_ACTIONS,
  readCommandActions,
  readDataDir,
  readDefaultBuildType,
  readHost,
  readHttpsProxy,
  readIsProduction,
} from './readers.ts'
import { readAdminHmacSecret, readAdminTokens, readHmacSecrets } from './secrets.ts'
import { readServiceAccount } from './service-account.ts'

export interface Setting<T> {
  readonly variables: readonly string[]
  /** The default; empty if there is none, or if it depends on another setting. */
  readonly example: string
  /** Of a number, both inclusive. */
  readonly range?: readonly [min: number, max: number]
  readonly read: (reader: EnvReader, isProduction: boolean) => T
  /** Of a secret: the fields of the `service.start` line. Any other setting has its value there. */
  masked?(value: T): Readonly<Record<string, unknown>>
}

const KIB = 1024
const MIB = KIB ** 2
const GIB = KIB ** 3
const DEFAULT_FCM_BASE_URL = 'https://fcm.googleapis.com'
const NO_PACKAGE_OR_ITS_NAME = new RegExp(`${PACKAGE_NAME.source}|^$`)

function setting<T>(variable: string, example: string, read: Setting<T>['read']): Setting<T> {
  return { variables: [variable], example, read }
}

function secret<T>(
  variables: readonly string[],
  read: Setting<T>['read'],
  masked: (value: T) => Readonly<Record<string, unknown>>,
): Setting<T> {
  return { variables, example: '', read, masked }
}

function integer(
  variable: string,
  fallback: number | ((isProduction: boolean) => number),
  min: number,
  max: number,
): Setting<number> {
  const fallbackOf = typeof fallback === 'number' ? () => fallback : fallback
  const read = (reader: EnvReader, isProduction: boolean) =>
    reader.integer(variable, min, max, fallbackOf(isProduction))
  const example = typeof fallback === 'number' ? String(fallback) : ''
  return { variables: [variable], example, range: [min, max], read }
}

const days = (variable: string, fallback: number) => integer(variable, fallback, 1, 3650)

const flag = (variable: string, fallback: boolean) =>
  setting(variable, String(fallback), (reader) => reader.flag(variable, fallback))

const choice = <const T extends string>(variable: string, choices: readonly T[], fallback: T) =>
  setting(variable, fallback, (reader) => reader.choice(variable, choices, fallback))

const cidrs = (variable: string) =>
  setting<readonly string[]>(variable, '', (reader) => reader.cidrs(variable))

export const SETTINGS = {
  // Process
  /**
   * `production`: DATABASE_URL, ADMIN_TOKENS and HMAC_SECRET are required. Anything else: an embedded PostgreSQL and generated
   * secrets, unless DATABASE_URL is set, which requires the other two.
   */
  isProduction: setting('NODE_ENV', '', readIsProduction),
  /** TCP port; 0 takes a free one. */
  port: integer('PORT', 8080, 0, 65_535),
  /** Address to listen on; empty: 0.0.0.0 in production, else 127.0.0.1. */
  host: setting('HOST', '', readHost),

  // Database
  /**
   * `postgres://user:password@host:5432/database`. `host1:5432,host2:5432` of one replicated cluster: the service uses the
   * host that takes writes (`?target_session_attrs=read-write`). Empty (not in production): an embedded PostgreSQL under
   * DATA_DIR. In production, another host needs `?sslmode=verify-full`, with `&sslrootcert=/path/of/ca.pem` for a CA of your
   * own.
   */
  databaseUrl: secret(['DATABASE_URL'], readDatabaseUrl('DATABASE_URL'), (url) => ({
    database_url: url === null ? 'embedded' : maskedUrl(url),
  })),
  /** A direct URL for migrations, if DATABASE_URL goes through a pooler; empty: DATABASE_URL. */
  migrateDatabaseUrl: secret(
    ['MIGRATE_DATABASE_URL'],
    readDatabaseUrl('MIGRATE_DATABASE_URL'),
    (url) => ({ migrate_database_url: url === null ? null : maskedUrl(url) }),
  ),
  /** Connections of one replica; at most 90 to the embedded PostgreSQL. */
  databasePoolMax: integer('DATABASE_POOL_MAX', 10, 5, 1000),
  /** Prepared statements; `false` behind PgBouncer in transaction mode, where [the role needs settings](../operate/scale.md#pgbouncer). */
  isDatabasePrepared: flag('DATABASE_PREPARED', true),
  /** `true` starts on a database whose settings can lose acknowledged writes, and continues with one that has lost some. */
  allowUnsafeDatabase: flag('ALLOW_UNSAFE_DATABASE', false),
  /** `true`: production may reach a database on another host without TLS, or with TLS that verifies nothing. */
  allowPlaintextDatabase: flag('ALLOW_PLAINTEXT_DATABASE', false),
  /** Directory of the embedded database, the first-run secrets, uploads in progress and the APK cache. */
  dataDir: setting('DATA_DIR', './data', readDataDir),

  // Secrets
  /**
   * `name[:scope[+scope]]=secret,…` with scopes admin (the default), command, enroll, apk, metrics, read. Make each secret
   * with: openssl rand -base64 32.
   */
  adminTokens: secret(['ADMIN_TOKENS'], readAdminTokens, (tokens) => ({
    admin_tokens: tokens.map(({ name, scopes }) => ({ name, scopes })),
  })),
  /**
   * `secret`, or `id=secret,id=secret`: the first signs new enrollments, all verify. Make each with: openssl rand -base64 32;
   * no comma. A lone secret has the id "default".
   */
  hmacSecrets: secret(['HMAC_SECRET'], readHmacSecrets, (secrets) => ({
    hmac_secret_ids: secrets.map(({ id }) => id),
  })),
  /** If set, every admin POST, PUT, PATCH and DELETE needs X-Signature. Make it with: openssl rand -base64 32. */
  adminHmacSecret: secret(['ADMIN_HMAC_SECRET'], readAdminHmacSecret, (hmacSecret) => ({
    requires_admin_signature: hmacSecret !== null,
  })),
  /** `true`: devices must sign their results. */
  requireSignedResults: flag('REQUIRE_SIGNED_RESULTS', false),

  // Push
  /**
   * Path of the Google service account's JSON key file, or the same JSON itself as FIREBASE_SERVICE_ACCOUNT_JSON; without
   * either, push is off.
   */
  serviceAccount: secret(
    ['GOOGLE_APPLICATION_CREDENTIALS', 'FIREBASE_SERVICE_ACCOUNT_JSON'],
    readServiceAccount,
    (account) => ({
      push: account === null ? 'off' : 'fcm',
      service_account: account && {
        project_id: account.projectId,
        client_email: account.clientEmail,
      },
    }),
  ),
  /** https, or http to loopback only. */
  fcmBaseUrl: setting('FCM_BASE_URL', DEFAULT_FCM_BASE_URL, (reader) =>
    reader.httpsUrl('FCM_BASE_URL', reader.text('FCM_BASE_URL') ?? DEFAULT_FCM_BASE_URL),
  ),
  /** How long FCM keeps an undelivered message. */
  fcmTtlS: integer('FCM_TTL_S', 300, 0, 2_419_200),
  /** Timeout of one call to FCM. */
  fcmTimeoutMs: integer('FCM_TIMEOUT_MS', 10_000, 10, 15_000),
  /** First wait after a failed push, doubled with jitter. */
  fcmRetryBaseMs: integer('FCM_RETRY_BASE_MS', 10_000, 1, 3_600_000),
  /** Calls to FCM at a time. */
  fcmMaxInFlight: integer('FCM_MAX_IN_FLIGHT', 64, 1, 1000),
  /** One validate-only call at the start proves the credentials; a problem is printed on stderr and logged. `false`: none. */
  fcmSelfTest: flag('FCM_SELF_TEST', true),
  /** `http://[user:password@]host:port`: the proxy to FCM and the token endpoint, by CONNECT; empty: none. */
  httpsProxy: secret(['HTTPS_PROXY'], readHttpsProxy, (url) => ({
    https_proxy: url === null ? null : new URL(url).host,
  })),
  /**
   * Hosts to reach without the proxy, separated by commas or spaces: names with their subdomains, addresses, `*`; a port may
   * follow.
   */
  noProxy: setting<readonly string[]>('NO_PROXY', '', (reader) =>
    reader.list('NO_PROXY').flatMap((host) => host.split(/\s+/)),
  ),

  // Commands and heartbeats
  /** What POST /admin/command accepts: names that match `^[a-z][a-z0-9_]{0,63}$`, at most 64. */
  commandActions: setting('COMMAND_ACTIONS', DEFAULT_ACTIONS.join(), readCommandActions),
  /** At most one heartbeat per device and window is stored; 0 stores all. */
  heartbeatDedupWindowS: integer('HEARTBEAT_DEDUP_WINDOW_S', 10, 0, 86_400),
  /** How often devices are asked to report. */
  heartbeatIntervalS: integer('HEARTBEAT_INTERVAL_S', 300, 1, 86_400),
  /** How long heartbeats are kept. */
  heartbeatRetentionDays: days('HEARTBEAT_RETENTION_DAYS', 7),
  /** How long ended commands are kept. */
  commandRetentionDays: days('COMMAND_RETENTION_DAYS', 90),
  /** How long entries of the audit log are kept. */
  auditRetentionDays: days('AUDIT_RETENTION_DAYS', 400),
  /** How long events are kept; an older cursor of `GET /admin/events` is 410 `cursor_gone`. */
  eventsRetentionDays: days('EVENTS_RETENTION_DAYS', 7),
  /** How long rows of APK downloads are kept. */
  downloadRetentionDays: days('DOWNLOAD_RETENTION_DAYS', 90),
  /** How long device tokens are kept after they died, and enrollment tokens after they expired. */
  tokenRetentionDays: days('TOKEN_RETENTION_DAYS', 90),
  /** How long deleted devices are kept; at least as long as their commands and tokens. */
  deviceRetentionDays: days('DEVICE_RETENTION_DAYS', 90),
  /** A device without contact for this long counts as offline; at least HEARTBEAT_INTERVAL_S. */
  deviceOfflineS: integer('DEVICE_OFFLINE_S', 1500, 1, 31_536_000),

  /** Interval of comments in a stream of events without news; less than the idle time of each proxy in front of the service. */
  eventsKeepAliveS: integer('EVENTS_KEEP_ALIVE_S', 20, 1, 60),

  // APKs
  /** The `build_type` of a download that names none. */
  apkDefaultBuildType: setting('APK_DEFAULT_BUILD_TYPE', 'debug', readDefaultBuildType),
  /** The package of a download that names none. Empty: that of the first build that went live. */
  apkDefaultPackage: setting('APK_DEFAULT_PACKAGE', '', (reader) =>
    reader.matching(
      'APK_DEFAULT_PACKAGE',
      NO_PACKAGE_OR_ITS_NAME,
      'a package name such as com.example.app',
      '',
    ),
  ),
  /** `false`: APKs without any signature are accepted as well. */
  isApkSignatureRequired: flag('APK_REQUIRE_SIGNATURE', true),
  /** Largest upload; the default is 200 MiB. */
  apkMaxBytes: integer('APK_MAX_BYTES', 200 * MIB, KIB, 10 * GIB),
  /** Disk cache of APKs under DATA_DIR; at least APK_MAX_BYTES. The default is 2 GiB. */
  apkCacheBytes: integer('APK_CACHE_BYTES', 2 * GIB, KIB, KIB * GIB),
  /** Downloads at a time, per replica. */
  apkMaxDownloads: integer('APK_MAX_DOWNLOADS', 256, 1, 100_000),
  /** Of them for one device, enrollment or admin token; an enrollment token of several uses may have one for each use. */
  apkMaxDownloadsPerToken: integer('APK_MAX_DOWNLOADS_PER_TOKEN', 3, 1, 100_000),
  /** Of them for one /24 or /64. */
  apkMaxDownloadsPerSubnet: integer('APK_MAX_DOWNLOADS_PER_SUBNET', 64, 1, 100_000),

  // Log and metrics
  /** Least level that is logged: DEBUG, INFO, WARN, ERROR, or OFF for no line at all. */
  logLevel: choice('LOG_LEVEL', ['DEBUG', 'INFO', 'WARN', 'ERROR', 'OFF'], 'INFO'),
  /** Log lines that stdout has not taken yet; the default is 4 MiB. */
  logBufferBytes: integer('LOG_BUFFER_BYTES', 4 * MIB, 64 * KIB, GIB),
  /** `false`: GET /metrics is 404. */
  isMetricsEnabled: flag('METRICS_ENABLED', true),
  /** Label `status_code`: coarse (200, 3xx, 4xx, 5xx) or exact. */
  metricsStatus: choice('METRICS_STATUS', ['coarse', 'exact'], 'coarse'),

  // Network and limits
  /** `true` refuses plaintext requests that come neither from loopback nor through a trusted proxy that reports https. */
  requireHttps: flag('REQUIRE_HTTPS', true),
  /** CIDRs of the proxies whose X-Forwarded-* headers count, comma-separated; list a proxy on this host as well. */
  trustedProxies: cidrs('TRUSTED_PROXIES'),
  /** CIDRs that may use plain http without a proxy. */
  plaintextOkCidrs: cidrs('PLAINTEXT_OK_CIDRS'),
  /** Enrollment tokens that one admin may create in an hour. */
  rateLimitTokensPerHour: integer('RATE_LIMIT_TOKENS_PER_HOUR', 200, 1, 1_000_000),
  /** APK downloads a minute per enrollment or device token. */
  rateLimitApkPerTokenPerMin: integer('RATE_LIMIT_APK_PER_TOKEN_PER_MIN', 10, 1, 1_000_000),
  /** APK downloads a minute per /24 or /64. */
  rateLimitApkPerSubnetPerMin: integer('RATE_LIMIT_APK_PER_SUBNET_PER_MIN', 600, 1, 1_000_000),

  // Shutdown
  /** How long to keep serving after SIGTERM while /readyz is 503; empty: 5000 in production, else 0. */
  shutdownDrainMs: integer(
    'SHUTDOWN_DRAIN_MS',
    (isProduction) => (isProduction ? 5000 : 0),
    0,
    600_000,
  ),
  /** The whole shutdown; more than SHUTDOWN_DRAIN_MS. */
  shutdownGraceMs: integer('SHUTDOWN_GRACE_MS', 15_000, 100, 600_000),
} as const

type Settings = typeof SETTINGS

/** What was read of each setting. */
export type SettingValues = {
  readonly [K in keyof Settings]: ReturnType<Settings[K]['read']>
}

/** The same rows, for code that treats all alike. */
export const ROWS: readonly (readonly [key: string, setting: Setting<unknown>])[] =
  Object.entries(SETTINGS)

/** Every variable that is read; each also with `_FILE` appended. */
export const CONFIG_VARIABLES: readonly string[] = ROWS.flatMap(([, { variables }]) => variables)
