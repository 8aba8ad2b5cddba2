/** The settings of one process, parsed once from the environment; every fault in one message. Names carry units. */
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { parseDatabaseUrl } from '../db/postgres/database-url.ts'
import { ACTION } from '../domain/ids.ts'
import { nearest } from '../lib/nearest.ts'
import { readDatabaseUrls } from './database.ts'
import { EnvReader, shown } from './env-reader.ts'
import { readAdminHmacSecret, readAdminTokens, readHmacSecrets } from './secrets.ts'
import { readServiceAccount } from './service-account.ts'
import type { Config } from './types.ts'
import { type UnknownVariable, unknownVariables } from './unknown-variables.ts'

export { CONFIG_VARIABLES } from './env-reader.ts'
export type { Config, ServiceAccount } from './types.ts'

const FCM_BASE_URL = 'https://fcm.googleapis.com'
/** As routes/apks/build-json.ts reads it from a query. */
const BUILD_TYPE = /^[a-z0-9][a-z0-9_-]{0,31}$/i
// biome-ignore format: one list
const COMMAND_ACTIONS = ['ping', 'launch_app', 'update', 'ring', 'reboot', 'restart_app', 'list_packages']

/** All that is wrong with the environment, one fault a line; never a secret's value. Exit code 78. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly faults: readonly string[]

  constructor(faults: readonly string[], notes: readonly string[] = []) {
    super(inLines('The configuration cannot be used', [...faults, ...notes]))
    this.faults = faults
  }
}

/** A variable that may explain what is missing, or why a setting has its default. */
export function unknownNote({ name, meant }: UnknownVariable): string {
  return `${shown(name)} is no setting, and is ignored; is ${meant} meant?`
}

/** One fault stands in the same line. */
export function inLines(what: string, faults: readonly string[]): string {
  return faults.length === 1 ? `${what}: ${faults[0]}` : [`${what}:`, ...faults].join('\n  ')
}

/**
 * Throws ConfigError. Outside production `adminTokens` and `hmacSecrets` may come out empty: first-run.ts
 * fills them. Variables that are not ours are ignored, and those that look like ours are told.
 */
export function parseConfig(
  env: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
): Config {
  const read = new EnvReader(env, readFile)
  const isProduction = readIsProduction(read)
  if (isProduction && env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0') {
    read.fault(
      'NODE_ENV',
      'production, with NODE_TLS_REJECT_UNAUTHORIZED=0: FCM and Google would not be verified; unset it',
    )
  }
  const config: Config = {
    isProduction,
    port: read.integer('PORT'),
    host: readHost(read, isProduction ? '0.0.0.0' : '127.0.0.1'),
    ...readDatabaseUrls(read, isProduction),
    databasePoolMax: read.integer('DATABASE_POOL_MAX'),
    isDatabasePrepared: read.flag('DATABASE_PREPARED'),
    allowUnsafeDatabase: read.flag('ALLOW_UNSAFE_DATABASE'),
    dataDir: readDataDir(read),
    adminTokens: readAdminTokens(read),
    hmacSecrets: readHmacSecrets(read),
    adminHmacSecret: readAdminHmacSecret(read),
    requireSignedResults: read.flag('REQUIRE_SIGNED_RESULTS'),
    serviceAccount: readServiceAccount(read),
    fcmBaseUrl: read.httpsUrl('FCM_BASE_URL', read.text('FCM_BASE_URL') ?? FCM_BASE_URL),
    fcmTtlS: read.integer('FCM_TTL_S'),
    fcmTimeoutMs: read.integer('FCM_TIMEOUT_MS'),
    fcmRetryBaseMs: read.integer('FCM_RETRY_BASE_MS'),
    fcmMaxInFlight: read.integer('FCM_MAX_IN_FLIGHT'),
    fcmSelfTest: read.flag('FCM_SELF_TEST'),
    commandActions: readCommandActions(read),
    heartbeatDedupWindowS: read.integer('HEARTBEAT_DEDUP_WINDOW_S'),
    heartbeatIntervalS: read.integer('HEARTBEAT_INTERVAL_S'),
    heartbeatRetentionDays: read.integer('HEARTBEAT_RETENTION_DAYS'),
    retention: {
      commandDays: read.integer('COMMAND_RETENTION_DAYS'),
      auditDays: read.integer('AUDIT_RETENTION_DAYS'),
      downloadDays: read.integer('DOWNLOAD_RETENTION_DAYS'),
      tokenDays: read.integer('TOKEN_RETENTION_DAYS'),
      deviceDays: read.integer('DEVICE_RETENTION_DAYS'),
    },
    deviceOfflineS: read.integer('DEVICE_OFFLINE_S'),
    apkDefaultBuildType: read.matching(
      'APK_DEFAULT_BUILD_TYPE',
      BUILD_TYPE,
      'letters, digits, _ and -, at most 32',
      'debug',
    ),
    apkMaxBytes: read.integer('APK_MAX_BYTES'),
    apkCacheBytes: read.integer('APK_CACHE_BYTES'),
    apkMaxDownloads: read.integer('APK_MAX_DOWNLOADS'),
    apkMaxDownloadsPerToken: read.integer('APK_MAX_DOWNLOADS_PER_TOKEN'),
    apkMaxDownloadsPerSubnet: read.integer('APK_MAX_DOWNLOADS_PER_SUBNET'),
    logLevel: read.choice('LOG_LEVEL', ['DEBUG', 'INFO', 'WARN', 'ERROR', 'OFF'], 'INFO'),
    logBufferBytes: read.integer('LOG_BUFFER_BYTES'),
    isMetricsEnabled: read.flag('METRICS_ENABLED'),
    metricsStatus: read.choice('METRICS_STATUS', ['coarse', 'exact'], 'coarse'),
    requireHttps: read.flag('REQUIRE_HTTPS'),
    trustedProxies: read.cidrs('TRUSTED_PROXIES'),
    plaintextOkCidrs: read.cidrs('PLAINTEXT_OK_CIDRS'),
    rateLimitTokensPerHour: read.integer('RATE_LIMIT_TOKENS_PER_HOUR'),
    rateLimitApkPerTokenPerMin: read.integer('RATE_LIMIT_APK_PER_TOKEN_PER_MIN'),
    rateLimitApkPerSubnetPerMin: read.integer('RATE_LIMIT_APK_PER_SUBNET_PER_MIN'),
    shutdownDrainMs: read.integer('SHUTDOWN_DRAIN_MS', isProduction ? 5000 : 0),
    shutdownGraceMs: read.integer('SHUTDOWN_GRACE_MS'),
    unknownVariables: unknownVariables(env),
  }
  checkTogether(config, read)
  if (read.faults.length > 0) {
    throw new ConfigError(read.faults, config.unknownVariables.map(unknownNote))
  }
  return deepFreeze(config)
}

/** For the `service.start` line: every setting by its wire name, never a secret. */
export function maskedConfig(config: Config): Record<string, unknown> {
  return {
    is_production: config.isProduction,
    port: config.port,
    host: config.host,
    database_url: config.databaseUrl === null ? 'embedded' : maskedUrl(config.databaseUrl),
    migrate_database_url:
      config.migrateDatabaseUrl === null ? null : maskedUrl(config.migrateDatabaseUrl),
    database_pool_max: config.databasePoolMax,
    is_database_prepared: config.isDatabasePrepared,
    allow_unsafe_database: config.allowUnsafeDatabase,
    allow_plaintext_database: config.allowPlaintextDatabase,
    data_dir: config.dataDir,
    admin_tokens: config.adminTokens.map(({ name, scopes }) => ({ name, scopes })),
    hmac_secret_ids: config.hmacSecrets.map(({ id }) => id),
    requires_admin_signature: config.adminHmacSecret !== null,
    require_signed_results: config.requireSignedResults,
    push: config.serviceAccount === null ? 'off' : 'fcm',
    service_account:
      config.serviceAccount === null
        ? null
        : {
            project_id: config.serviceAccount.projectId,
            client_email: config.serviceAccount.clientEmail,
          },
    fcm_base_url: config.fcmBaseUrl,
    fcm_ttl_s: config.fcmTtlS,
    fcm_timeout_ms: config.fcmTimeoutMs,
    fcm_retry_base_ms: config.fcmRetryBaseMs,
    fcm_max_in_flight: config.fcmMaxInFlight,
    fcm_self_test: config.fcmSelfTest,
    command_actions: config.commandActions,
    heartbeat_dedup_window_s: config.heartbeatDedupWindowS,
    heartbeat_interval_s: config.heartbeatIntervalS,
    heartbeat_retention_days: config.heartbeatRetentionDays,
    command_retention_days: config.retention.commandDays,
    audit_retention_days: config.retention.auditDays,
    download_retention_days: config.retention.downloadDays,
    token_retention_days: config.retention.tokenDays,
    device_retention_days: config.retention.deviceDays,
    device_offline_s: config.deviceOfflineS,
    apk_default_build_type: config.apkDefaultBuildType,
    apk_max_bytes: config.apkMaxBytes,
    apk_cache_bytes: config.apkCacheBytes,
    apk_max_downloads: config.apkMaxDownloads,
    apk_max_downloads_per_token: config.apkMaxDownloadsPerToken,
    apk_max_downloads_per_subnet: config.apkMaxDownloadsPerSubnet,
    log_level: config.logLevel,
    log_buffer_bytes: config.logBufferBytes,
    is_metrics_enabled: config.isMetricsEnabled,
    metrics_status: config.metricsStatus,
    require_https: config.requireHttps,
    trusted_proxies: config.trustedProxies,
    plaintext_ok_cidrs: config.plaintextOkCidrs,
    rate_limit_tokens_per_hour: config.rateLimitTokensPerHour,
    rate_limit_apk_per_token_per_min: config.rateLimitApkPerTokenPerMin,
    rate_limit_apk_per_subnet_per_min: config.rateLimitApkPerSubnetPerMin,
    shutdown_drain_ms: config.shutdownDrainMs,
    shutdown_grace_ms: config.shutdownGraceMs,
    unknown_variables: config.unknownVariables,
  }
}

/** A typo must not start an embedded database on a production machine. */
function readIsProduction(read: EnvReader): boolean {
  const text = read.text('NODE_ENV') ?? 'development'
  const isMeant = /^pro?d/i.test(text) || nearest(text, ['production']) !== undefined
  if (isMeant && text !== 'production') {
    read.fault('NODE_ENV', `${shown(text)} is not read as production; give production`)
  }
  return text === 'production'
}

function readHost(read: EnvReader, fallback: string): string {
  const host = read.text('HOST') ?? fallback
  const isName = /^(?![\d.]+$)[A-Za-z0-9._-]{1,253}$/.test(host)
  if (!isName && isIP(host) === 0) {
    const rule = 'an address or a name of this machine, without a port, such as 0.0.0.0'
    read.fault('HOST', `${shown(host)} cannot be meant; give ${rule}`)
  }
  return host
}

/** What a shell would have made something of would be made here, and a fleet begun anew in it. */
function readDataDir(read: EnvReader): string {
  const path = read.text('DATA_DIR') ?? 'data'
  if (/^(["'\s~$%]|file:)|\s$/.test(path)) {
    read.fault(
      'DATA_DIR',
      `${shown(path)} cannot be meant; give a path as it is, such as /var/lib/fleetloop`,
    )
  }
  return resolve(path)
}

function readCommandActions(read: EnvReader): readonly string[] {
  const given = read.list('COMMAND_ACTIONS')
  const unusable = given.filter((action) => !ACTION.test(action))
  if (unusable.length > 0) {
    const names = unusable.slice(0, 5).map(shown).join(', ')
    read.fault('COMMAND_ACTIONS', `${names}: give names that match ${ACTION.source}`)
  }
  if (given.length > 64) read.fault('COMMAND_ACTIONS', `${given.length} actions; give at most 64`)
  if (new Set(given).size < given.length) {
    read.fault('COMMAND_ACTIONS', 'an action stands there twice; give each once')
  }
  return given.length > 0 ? given : COMMAND_ACTIONS
}

/** What is wrong only in combination. */
function checkTogether(config: Config, read: EnvReader): void {
  const { isProduction, databaseUrl } = config
  const why = isProduction ? 'NODE_ENV is production' : 'DATABASE_URL is set'
  if (isProduction && databaseUrl === null) {
    read.missing('DATABASE_URL', why, 'postgres://user:password@host:5432/database')
  }
  // A made-up secret never meets a database that we did not make.
  if (isProduction || databaseUrl !== null) {
    if (config.adminTokens.length === 0) {
      read.missing('ADMIN_TOKENS', why, 'name=secret, the secret from: openssl rand -base64 32')
    }
    if (config.hmacSecrets.length === 0) {
      read.missing('HMAC_SECRET', why, 'a secret from: openssl rand -base64 32')
    }
  } else {
    if (config.migrateDatabaseUrl !== null) {
      read.fault('MIGRATE_DATABASE_URL', 'given without DATABASE_URL; give both or none')
    }
    if (config.databasePoolMax > 90) {
      read.fault('DATABASE_POOL_MAX', 'the embedded PostgreSQL takes at most 90 connections')
    }
  }
  if (config.apkCacheBytes < config.apkMaxBytes) {
    read.fault('APK_CACHE_BYTES', 'less than APK_MAX_BYTES, so the largest APK does not fit')
  }
  if (config.deviceOfflineS < config.heartbeatIntervalS) {
    read.fault('DEVICE_OFFLINE_S', 'less than HEARTBEAT_INTERVAL_S: every device would be offline')
  }
  if (config.shutdownDrainMs >= config.shutdownGraceMs) {
    read.fault('SHUTDOWN_DRAIN_MS', 'give less than SHUTDOWN_GRACE_MS, which is the time for all')
  }
}

/** Without the password; a socket's directory percent-encoded, in the place of a host. */
function maskedUrl(text: string): string {
  const { hosts, user, database, sslmode } = parseDatabaseUrl(text)
  const places = hosts.map(({ host = 'localhost', port = 5432 }) => {
    return `${host.includes(':') ? `[${host}]` : encodeURIComponent(host)}:${port}`
  })
  const front = user === undefined ? '' : `${encodeURIComponent(user)}@`
  return `postgres://${front}${places.join(',')}/${database ?? ''}?sslmode=${sslmode ?? 'disable'}`
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFreeze)
    Object.freeze(value)
  }
  return value
}
