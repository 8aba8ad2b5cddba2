/** From a reachable database to one that this release may serve from; refuses where serving would lose something. */
import type { Config } from './config.ts'
import { sleep } from './core/wait.ts'
import { startEmbedded } from './db/embedded.ts'
import type { HmacSecretStore } from './db/hmac-secrets.ts'
import { readInstanceId, unsafeSettings } from './db/installation.ts'
import { MigrationError, migrate, readMigrations } from './db/migrate.ts'
import type { Database } from './db/pool.ts'
import { isOwnWait, isUnavailable } from './db/sqlstate.ts'
import { secretFingerprint } from './security/tokens.ts'

/** The service must not start like this; the message says what to change. process.ts exits with 78 (EX_CONFIG). */
export class StartError extends Error {
  override readonly name = 'StartError'
}

export interface StartupDeps {
  readonly config: Config
  readonly databaseUrl: string
  readonly database: Database
  readonly secrets: HmacSecretStore
  /** Told why the start does not get on (and, undefined, that it does). */
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
      await refuseOtherSecrets(deps)
      await deps.makePartitions()
      deps.observe(undefined)
      return
    } catch (error) {
      if (error instanceof MigrationError) throw new StartError(error.message, { cause: error })
      const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
      if (!isUnavailable(cause) && !isOwnWait(cause)) throw error
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

async function refuseOtherSecrets({ config, secrets }: StartupDeps): Promise<void> {
  const configured = config.hmacSecrets.map((secret) => ({
    id: secret.id,
    fingerprint: secretFingerprint(secret),
  }))
  const { dropped, changed } = await secrets.check(configured)
  if (dropped.length > 0) {
    throw new StartError(
      `HMAC_SECRET lacks ${dropped.join(', ')}, which live devices' keys were made with. Add it back after the first one: HMAC_SECRET="new=…,${dropped[0]}=…".`,
    )
  }
  if (changed.length > 0) {
    throw new StartError(
      `HMAC_SECRET has another value for ${changed.join(', ')} than live devices' tokens and keys were made with: every phone would be refused. Put the old value back; a new secret needs an id of its own in front: HMAC_SECRET="new=…,${changed[0]}=<old value>".`,
    )
  }
}
