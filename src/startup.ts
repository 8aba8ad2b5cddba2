/** From a reachable database to one that this release may serve from; refuses where serving would lose something. */
import type { Config } from './config.ts'
import { sleep } from './core/wait.ts'
import type { DeviceStore } from './db/devices.ts'
import { startEmbedded } from './db/embedded.ts'
import { readInstanceId, unsafeSettings } from './db/installation.ts'
import { MigrationError, migrate, readMigrations } from './db/migrate.ts'
import type { Database } from './db/pool.ts'
import { isUnavailable } from './db/sqlstate.ts'

/** The service must not start like this; the message says what to change. main.ts exits with 78 (EX_CONFIG). */
export class StartError extends Error {
  override readonly name = 'StartError'
}

export interface StartupDeps {
  readonly config: Config
  readonly databaseUrl: string
  readonly database: Database
  readonly devices: Pick<DeviceStore, 'secretIdsInUse'>
  /** Told of a database that is away (and of its return). */
  readonly observe: (error: unknown) => void
  /** Told once the schema is in and the installation is known. */
  readonly identified: (instanceId: string) => void
  readonly makePartitions: () => Promise<void>
  readonly closing: AbortSignal
}

const RETRY_MS = 500

export interface OpenedDatabase {
  readonly url: string
  /** Stops it where it is ours. */
  close(): Promise<void>
}

/** The configured database, or the embedded one, started. */
export async function openDatabase(
  config: Config,
  say: (text: string) => void,
): Promise<OpenedDatabase> {
  if (config.databaseUrl !== null) return { url: config.databaseUrl, close: async () => {} }
  const embedded = await startEmbedded({ dataDir: config.dataDir, log: say })
  return { url: embedded.url, close: embedded.stop }
}

/** Migrates and checks; waits for a database that is away, for as long as it takes. Throws StartError. */
export async function prepareDatabase(deps: StartupDeps): Promise<void> {
  const migrations = readMigrations()
  while (!deps.closing.aborted) {
    try {
      await migrate(deps.config.migrateDatabaseUrl ?? deps.databaseUrl, migrations)
      deps.identified(await readInstanceId(deps.database))
      await refuseUnsafeSettings(deps)
      await refuseDroppedSecrets(deps)
      await deps.makePartitions()
      deps.observe(undefined)
      return
    } catch (error) {
      if (error instanceof MigrationError) throw new StartError(error.message, { cause: error })
      const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
      if (!isUnavailable(cause)) throw error
      deps.observe(cause)
    }
    await sleep(RETRY_MS, deps.closing)
  }
  throw new StartError('The service was stopped before the database answered.')
}

async function refuseUnsafeSettings({ config, database }: StartupDeps): Promise<void> {
  if (config.allowUnsafeDatabase) return
  const unsafe = await unsafeSettings(database)
  if (unsafe.length === 0) return
  throw new StartError(
    `The database may lose what it acknowledged: ${unsafe.join(', ')}. Turn these on, or set ALLOW_UNSAFE_DATABASE=true for a database that may be lost.`,
  )
}

async function refuseDroppedSecrets({ config, devices }: StartupDeps): Promise<void> {
  const known = new Set(config.hmacSecrets.map((secret) => secret.id))
  const dropped = (await devices.secretIdsInUse()).filter((id) => !known.has(id))
  if (dropped.length === 0) return
  throw new StartError(
    `HMAC_SECRET lacks ${dropped.join(', ')}, which live devices' command keys were made with. Add it back after the first one: HMAC_SECRET="new=…,${dropped[0]}=…".`,
  )
}
