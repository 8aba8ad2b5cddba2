/** The settings of one process, parsed once from the environment; every fault in one message. Names carry units. */
import { EnvReader, shown } from './env-reader.ts'
import { ROWS, SETTINGS, type SettingValues } from './settings.ts'
import { type UnknownVariable, unknownVariables } from './unknown-variables.ts'

export { CONFIG_VARIABLES } from './settings.ts'

export interface Config extends SettingValues {
  /** Variables that look like settings but are none, or begin with FLEETLOOP_. */
  readonly unknownVariables: readonly UnknownVariable[]
}

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
  const advice = meant === null ? '.env.example lists them all' : `is ${meant} meant?`
  return `${shown(name)} is no setting, and is ignored; ${advice}`
}

/** A single fault follows on the same line. */
export function inLines(what: string, faults: readonly string[]): string {
  return faults.length === 1 ? `${what}: ${faults[0]}` : [`${what}:`, ...faults].join('\n  ')
}

/**
 * Throws ConfigError. Outside production `adminTokens` and `hmacSecrets` may be empty: first-run.ts generates them.
 */
export function parseConfig(
  env: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
): Config {
  const reader = new EnvReader(env, readFile)
  const isProduction = SETTINGS.isProduction.read(reader, false)
  const values = ROWS.map(([key, { read }]) => [key, read(reader, isProduction)])
  const config: Config = {
    ...(Object.fromEntries(values) as SettingValues), // each key has what its row reads
    unknownVariables: unknownVariables(env),
  }
  checkTogether(config, reader)
  if (reader.faults.length > 0) {
    throw new ConfigError(reader.faults, config.unknownVariables.map(unknownNote))
  }
  return deepFreeze(config)
}

/** For the `service.start` line: every setting in snake case, secrets masked. */
export function maskedConfig(config: Config): Record<string, unknown> {
  const snakeCase = (key: string) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  const values: Readonly<Record<string, unknown>> = { ...config }
  const fields = ROWS.map(
    ([key, setting]) => setting.masked?.(values[key]) ?? { [snakeCase(key)]: values[key] },
  )
  return Object.assign({}, ...fields, { unknown_variables: config.unknownVariables })
}

/** What is wrong only in combination. */
function checkTogether(config: Config, reader: EnvReader): void {
  const { isProduction, databaseUrl } = config
  const why = isProduction ? 'NODE_ENV is production' : 'DATABASE_URL is set'
  if (isProduction && databaseUrl === null) {
    reader.missing('DATABASE_URL', why, 'postgres://user:password@host:5432/database')
  }
  // A made-up secret never meets a database that we did not make.
  if (isProduction || databaseUrl !== null) {
    if (config.adminTokens.length === 0) {
      reader.missing('ADMIN_TOKENS', why, 'name=secret, the secret from: openssl rand -base64 32')
    }
    if (config.hmacSecrets.length === 0) {
      reader.missing('HMAC_SECRET', why, 'a secret from: openssl rand -base64 32')
    }
  } else {
    if (config.migrateDatabaseUrl !== null) {
      reader.fault('MIGRATE_DATABASE_URL', 'given without DATABASE_URL; give both or none')
    }
    if (config.databasePoolMax > 90) {
      reader.fault('DATABASE_POOL_MAX', 'the embedded PostgreSQL takes at most 90 connections')
    }
  }
  if (config.apkCacheBytes < config.apkMaxBytes) {
    reader.fault('APK_CACHE_BYTES', 'less than APK_MAX_BYTES, so the largest APK does not fit')
  }
  if (config.deviceOfflineS < config.heartbeatIntervalS) {
    reader.fault(
      'DEVICE_OFFLINE_S',
      'less than HEARTBEAT_INTERVAL_S: every device would be offline',
    )
  }
  if (config.shutdownDrainMs >= config.shutdownGraceMs) {
    reader.fault('SHUTDOWN_DRAIN_MS', 'give less than SHUTDOWN_GRACE_MS, which is the time for all')
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFreeze)
    Object.freeze(value)
  }
  return value
}
