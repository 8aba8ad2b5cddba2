/** Prepares the database for this release; refuses to start if serving would lose data or lock out phones. */
import { type Config, inLines } from '../config/config.ts'
import type { HmacSecretStore, SecretFaults, SecretFingerprint } from '../db/hmac-secrets.ts'
import type { Dialer } from '../db/postgres/dialer.ts'
import type { Database } from '../db/postgres/pool.ts'
import { SessionError, type VerifySession } from '../db/postgres/session-check.ts'
import { isUnavailable, OwnWaitError } from '../db/postgres/sqlstate.ts'
import { checkDatabase } from '../db/schema/database-check.ts'
import type { SequenceCheck } from '../db/schema/identity-sequences.ts'
import { readInstanceId } from '../db/schema/installation.ts'
import { MigrationError, migrate, readMigrations, tablesOf } from '../db/schema/migrate.ts'
import { startEmbedded } from '../dev/embedded-postgres.ts'
import { AppError } from '../domain/errors.ts'
import { errorText } from '../lib/error-text.ts'
import { sleep } from '../lib/timeouts.ts'
import { secretFingerprint } from '../security/tokens.ts'
import type { Line } from '../telemetry/log/log.ts'

/** The service must not start; the message says what to change. process.ts exits with 78 (EX_CONFIG). */
export class StartError extends Error {
  override readonly name = 'StartError'
}

export interface StartupDeps {
  readonly config: Config
  readonly databaseUrl: string
  readonly dialer: Dialer
  /** Compares the server of a new connection with the servers seen before. */
  readonly verifyServer: VerifySession
  readonly database: Database
  readonly secrets: HmacSecretStore
  /** Receives why the start is stuck, or undefined when it goes on. */
  readonly observe: (error: unknown) => void
  /** Prints a note for people on stderr. */
  readonly printNotice: (text: string) => void
  /** Writes a line that belongs to no request. */
  readonly logLine: (line: Line) => void
  /** To be called once the schema is up to date and the installation is known. */
  readonly identified: (instanceId: string) => void
  readonly makePartitions: () => Promise<void>
  readonly closing: AbortSignal
}

const RETRY_MS = 500
/** Most causes of a wait that are printed: a server can word them in any number of ways. */
const MAX_WAIT_NOTES = 20
export const POOLER =
  'DATABASE_URL leads through a pooler that takes no start-up options: set DATABASE_PREPARED=false, and give its role the settings of docs/operate/scale.md, PgBouncer'

export interface OpenedDatabase {
  readonly url: string
  /** Stops an embedded database. */
  close(): Promise<void>
}

/** Returns the configured database, or starts the embedded one. */
export async function openDatabase(
  config: Config,
  printNotice: (text: string) => void,
): Promise<OpenedDatabase> {
  if (config.databaseUrl !== null) return { url: config.databaseUrl, close: async () => {} }
  const embedded = await startEmbedded({ dataDir: config.dataDir, log: printNotice })
  return { url: embedded.url, close: embedded.stop }
}

/** Migrates and checks the database; waits for one that is away as long as necessary. Throws StartError. */
export async function prepareDatabase(deps: StartupDeps): Promise<void> {
  const { config, database, closing } = deps
  const migrations = readMigrations()
  const noteWait = createWaitNotes(deps.printNotice)
  let which = ''
  const waits = (cause: unknown) => {
    deps.observe(cause)
    noteWait(which, errorText(cause))
  }
  while (!closing.aborted) {
    which = config.migrateDatabaseUrl === null ? '' : ' of MIGRATE_DATABASE_URL'
    try {
      const url = config.migrateDatabaseUrl ?? deps.databaseUrl
      await migrate(url, migrations, {
        dialer: deps.dialer,
        isUnsafeAllowed: config.allowUnsafeDatabase,
        onSequences: (check) => report(check, deps),
        onSilent: waits,
        onWait: (why) => noteWait(which, why),
        verifyServer: deps.verifyServer,
      })
      which = ''
      await refuseUnfit(deps, tablesOf(migrations))
      deps.identified(await readInstanceId(database))
      await refuseOtherSecrets(deps)
      await deps.makePartitions()
      deps.observe(undefined)
      return
    } catch (error) {
      const cause = error instanceof AppError ? (error.cause ?? error) : error
      if (cause instanceof MigrationError) throw unfit([cause.message])
      if (cause instanceof SessionError) throw unfit(cause.faults)
      if (isPoolerRefusal(cause)) throw unfit([POOLER])
      if (!isUnavailable(cause) && !(cause instanceof OwnWaitError)) throw error
      if (!closing.aborted) waits(cause)
    }
    await sleep(RETRY_MS, closing)
  }
  throw new StartError('The service was stopped before the database answered.')
}

/** Prints each cause of a wait once. */
function createWaitNotes(
  printNotice: (text: string) => void,
): (which: string, why: string) => void {
  const printed = new Set<string>()
  return (which, why) => {
    const what = `the database${which}: ${why}`
    if (printed.has(what) || printed.size === MAX_WAIT_NOTES) return
    printed.add(what)
    printNotice(`waiting for ${what}; trying again`)
  }
}

/** Logs each sequence that was behind: a restore or a replication left it out, and perhaps more. */
function report({ advanced, closed }: SequenceCheck, { logLine, printNotice }: StartupDeps): void {
  for (const fields of advanced) logLine({ event: 'db.sequence_advanced', fields })
  if (closed.length === 0) return
  printNotice(
    `note: nobody can tell whether ${closed.join(', ')} is behind its table: grant select, update on sequence ${closed.join(', ')} to the role of the migrations`,
  )
}

/** The errors of PgBouncer and RDS Proxy for `options`, which pin the settings of each connection. */
export function isPoolerRefusal(error: unknown): boolean {
  return /unsupported startup parameter|support command-line options/.test(errorText(error))
}

async function refuseUnfit(deps: StartupDeps, tables: readonly string[]): Promise<void> {
  const { config, database, printNotice } = deps
  const { faults, notes } = await checkDatabase(database, tables, connectionsOf(config))
  if (faults.length > 0) throw unfit(faults)
  for (const note of notes) printNotice(`note: ${note}`)
}

/** null: a pooler shares its connections among the replicas. */
export function connectionsOf(config: Config): number | null {
  return config.isDatabasePrepared ? config.databasePoolMax + 1 : null
}

function unfit(faults: readonly string[]): StartError {
  return new StartError(inLines('The database cannot be used', faults))
}

async function refuseOtherSecrets({ config, secrets }: StartupDeps): Promise<void> {
  const fault = secretFault(await secrets.check(fingerprintsOf(config)))
  if (fault !== undefined) throw new StartError(fault)
}

export function fingerprintsOf({ hmacSecrets }: Config): readonly SecretFingerprint[] {
  return hmacSecrets.map((secret) => ({ id: secret.id, fingerprint: secretFingerprint(secret) }))
}

/** One sentence; undefined if all secrets that phones rely on are configured. */
export function secretFault({ dropped, changed }: SecretFaults): string | undefined {
  if (dropped.length > 0) {
    return `HMAC_SECRET lacks ${dropped.join(', ')}, which live devices' keys were made with. Add it back after the first one: HMAC_SECRET="new=…,${dropped[0]}=…".`
  }
  if (changed.length > 0) {
    return `HMAC_SECRET has another value for ${changed.join(', ')} than live devices' tokens and keys were made with: every phone would be refused. Put the old value back; a new secret needs an id of its own in front: HMAC_SECRET="new=…,${changed[0]}=<old value>".`
  }
  return undefined
}
