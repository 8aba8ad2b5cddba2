/**
 * Migrates the schema to this release: sql/NNNN_what.sql in order, forward only, each in its own transaction under
 * one advisory lock, recorded with its sha256. Replicas may start concurrently.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { retryWhile, sleep, waitAtMost } from '../../lib/timeouts.ts'
import { connect } from '../postgres/connect.ts'
import { serversOf } from '../postgres/database-url.ts'
import { Dialer } from '../postgres/dialer.ts'
import { RewoundError, type ServerClient } from '../postgres/server-client.ts'
import {
  PIN_LOCALLY,
  readSession,
  SessionError,
  sessionFaults,
  type VerifySession,
} from '../postgres/session-check.ts'
import { isGivenUp, isUnavailable } from '../postgres/sqlstate.ts'
import { advanceSequences, type SequenceCheck } from './identity-sequences.ts'

export interface Migration {
  readonly number: number
  readonly name: string
  readonly sql: string
  /** Lower-case hex. */
  readonly sha256: string
  /** Its first line is `-- breaking`: the previous release cannot run on it. */
  readonly isBreaking: boolean
}

/** The schema does not fit this release; starting would do harm. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError'
}

export interface MigrateOptions {
  readonly dialer?: Dialer
  /** ALLOW_UNSAFE_DATABASE. */
  readonly isUnsafeAllowed?: boolean
  readonly onSequences?: (check: SequenceCheck) => void
  readonly onSilent?: (error: Error) => void
  readonly onWait?: (why: string) => void
  /** Compares a new connection's server with earlier ones. */
  readonly verifyServer?: VerifySession
}

interface Applied {
  readonly number: number
  readonly name: string
  readonly sha256: string
  readonly is_breaking: boolean
}

/** Key of the advisory lock: arbitrary, the same in every release. */
const LOCK_KEY = 7_311_860_294
const LOCK_POLL_MS = 200
/** After this the wait for a lock is printed. */
const WAIT_NOTICE_MS = 500
const LOCK_TIMEOUT_MS = 800
/** After this a connection attempt is reported; it goes on. */
const SILENT_MS = 2_000
/** Of the statements around a migration; after it the server counts as lost. A migration itself has no limit. */
const STATEMENT_TIMEOUT_MS = 5_000
const NO_TIMEOUT_MS = 2 ** 31 - 1
const CLIENT_OPTIONS = {
  query_timeout: STATEMENT_TIMEOUT_MS,
  keepAlive: true, // also ends a long migration whose server is gone
  application_name: 'fleetloop-migrate',
}
/** Tries of a migration that waits for a table lock; then the service exits and is restarted. */
const MAX_LOCK_TRIES = 66

const OTHER_SCHEMA = /* sql */ `
  select n.nspname as "there", current_schema() as "here"
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relname = 'hmac_secrets' and n.nspname <> current_schema() and pg_has_role(c.relowner, 'usage')
    and not exists (select from pg_class k join pg_namespace m on m.oid = k.relnamespace
      where k.relname = 'hmac_secrets' and m.nspname = current_schema())
  limit 1`

const CREATE_RECORD = /* sql */ `
  create table if not exists schema_migrations (
    number integer primary key,
    name text not null,
    sha256 text not null,
    is_breaking boolean not null,
    applied_at timestamptz not null default now()
  )`

/** Reads this release's migrations from `directory` (default: the package's sql/). */
export function readMigrations(directory?: string): readonly Migration[] {
  const first = import.meta.resolve('#sql/0001_enrollment_and_devices.sql')
  const from = directory ?? fileURLToPath(new URL('.', first))
  const files = readdirSync(from)
    .filter((file) => file.endsWith('.sql'))
    .sort()
  return files.map((file, index) => {
    const number = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(file)?.[1])
    if (number !== index + 1) throw new MigrationError(`sql/${file}: expected number ${index + 1}`)
    const sql = readFileSync(`${from}/${file}`, 'utf8')
    return {
      number,
      name: file.slice(0, -'.sql'.length),
      sql,
      sha256: createHash('sha256').update(sql).digest('hex'),
      isBreaking: sql.startsWith('-- breaking'),
    }
  })
}

export function tablesOf(migrations: readonly Migration[]): readonly string[] {
  return migrations.flatMap(({ sql }) =>
    [...sql.matchAll(/^create table (?:if not exists )?(\w+)/gm)].map(([, table = '']) => table),
  )
}

/**
 * Applies missing migrations and returns their number; then advances sequences. Throws MigrationError, SessionError,
 * or pg's error while the database is away. `onWait` gets the reason of a wait, repeatedly.
 */
export async function migrate(
  url: string,
  migrations: readonly Migration[],
  {
    isUnsafeAllowed = false,
    onSequences = () => {},
    onWait = () => {},
    ...options
  }: MigrateOptions = {},
): Promise<number> {
  const dialer = options.dialer ?? new Dialer()
  const verify = options.verifyServer
  const clientOptions = {
    ...CLIENT_OPTIONS,
    ...(verify && { verify: (made: ServerClient) => verify(made, STATEMENT_TIMEOUT_MS) }),
  }
  const client = await dialer.dial({
    attempt: (signal) => connect(serversOf(url), clientOptions, signal),
    isWanted: () => true,
    onSilent: options.onSilent ?? (() => {}),
    silentAfterMs: SILENT_MS,
  })
  if (client === undefined) throw new Error('the service is stopping')
  try {
    if (client.rewound !== undefined) throw new RewoundError(client.rewound)
    await refuseUnfit(client, isUnsafeAllowed)
    let appliedCount = 0
    await locked(client, onWait, async () => {
      await refuseSecond(client)
      await explainRefusal(client, 'schema_migrations', () => client.query(CREATE_RECORD))
    })
    for (const migration of migrations) {
      const applied = () => locked(client, onWait, () => apply(client, migration))
      if (await withLockRetries(`sql/${migration.name}.sql`, onWait, applied)) appliedCount += 1
    }
    await refuseNewer(client, migrations.length)
    const tables = tablesOf(migrations)
    const advanced = () => locked(client, onWait, () => advanceSequences(client, tables))
    onSequences(await withLockRetries('a sequence', onWait, advanced))
    return appliedCount
  } catch (error) {
    client.isAbandoned = isGivenUp(error)
    throw error
  } finally {
    // A silent server never closes the connection.
    await waitAtMost(dialer.hangUp(client), STATEMENT_TIMEOUT_MS)
  }
}

async function refuseUnfit(client: pg.Client, isUnsafeAllowed: boolean): Promise<void> {
  const facts = await readSession(client, STATEMENT_TIMEOUT_MS)
  const faults = sessionFaults(facts, { isUnsafeAllowed, arePinsChecked: false })
  if (faults.length > 0) throw new SessionError(faults)
}

/** A wrong search_path would create a second, empty installation, which knows no phone. */
async function refuseSecond(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ there: string; here: string }>(OTHER_SCHEMA)
  const first = rows[0]
  if (first === undefined) return
  throw new MigrationError(
    `search_path makes new tables in schema ${first.here}, but this installation is in schema ${first.there}: every phone would be unknown. Set search_path of the role back to ${first.there}; a second installation needs a database of its own`,
  )
}

/** Explains a permanent refusal by the server; errors that a retry may fix pass through. */
async function explainRefusal<T>(
  client: pg.Client,
  what: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || isUnavailable(error)) throw error
    const message = `${what} cannot be applied: ${error.message}${fixFor(error.code, client)}`
    throw new MigrationError(message, { cause: error })
  }
}

function fixFor(sqlstate: string | undefined, { user, database }: pg.Client): string {
  if (sqlstate === '42501') {
    return `. ${user} needs the schema and the tables for its own (alter database ${database} owner to ${user}; grant create on schema public to ${user}), or give the URL of a role that has them as MIGRATE_DATABASE_URL`
  }
  // A table, index or column exists, is missing, or differs.
  const isTaken = /^(42P07|42P01|42701|42703|42710|42804)$/.test(sqlstate ?? '')
  return isTaken ? '. Something else uses these names: fleetloop needs a database of its own' : ''
}

async function apply(client: pg.Client, migration: Migration): Promise<boolean> {
  const found = await explainRefusal(client, 'schema_migrations', () =>
    client.query<Applied>('select * from schema_migrations where number = $1', [migration.number]),
  )
  const applied = found.rows[0]
  if (applied !== undefined) {
    if (applied.sha256 === migration.sha256) return false
    throw new MigrationError(
      `sql/${migration.name}.sql differs from ${applied.name}, which this database ran: a migration is never edited once it was applied; add a new one instead`,
    )
  }
  const query: pg.QueryConfig & pg.ClientConfig = {
    text: migration.sql,
    query_timeout: NO_TIMEOUT_MS,
  }
  await explainRefusal(client, `sql/${migration.name}.sql`, () => client.query(query))
  await client.query(
    'insert into schema_migrations (number, name, sha256, is_breaking) values ($1, $2, $3, $4)',
    [migration.number, migration.name, migration.sha256, migration.isBreaking],
  )
  return true
}

async function refuseNewer(client: pg.Client, known: number): Promise<void> {
  const { rows } = await client.query<Applied>(
    'select * from schema_migrations where number > $1 and is_breaking order by number',
    [known],
  )
  const first = rows[0]
  if (first === undefined) return
  throw new MigrationError(
    `this database ran ${first.name}, which breaks with this release: start the release that brought it, or a later one`,
  )
}

/** Runs `work` in a transaction with the advisory lock. Polls: a waiting lock would deadlock with index builds. */
async function locked<T>(
  client: pg.Client,
  onWait: (why: string) => void,
  work: () => Promise<T>,
): Promise<T> {
  for (let waitedMs = 0; ; waitedMs += LOCK_POLL_MS) {
    await client.query('begin isolation level read committed')
    try {
      // A migration takes its time, whatever limits the role or database sets.
      await client.query(
        `set local lock_timeout = ${LOCK_TIMEOUT_MS}; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0; ${PIN_LOCALLY}`,
      )
      const { rows } = await client.query<{ isOurs: boolean }>(
        'select pg_try_advisory_xact_lock($1) as "isOurs"',
        [LOCK_KEY],
      )
      if (rows[0]?.isOurs === true) {
        const value = await work()
        const { command } = await client.query('commit')
        if (command !== 'COMMIT') throw new Error(`the migration ended in ${command}`)
        return value
      }
    } catch (error) {
      await client.query('rollback').catch(() => {}) // the connection is gone; the first error says why
      throw error
    }
    await client.query('rollback')
    if (waitedMs >= WAIT_NOTICE_MS) {
      onWait(`another session migrates, or holds advisory lock ${LOCK_KEY} (pg_locks says which)`)
    }
    await sleep(LOCK_POLL_MS)
  }
}

function withLockRetries<T>(
  what: string,
  onWait: (why: string) => void,
  work: () => Promise<T>,
): Promise<T> {
  return retryWhile(work, (error, tries) => {
    const isLockTimeout = error instanceof pg.DatabaseError && error.code === '55P03'
    if (!isLockTimeout || tries === MAX_LOCK_TRIES) return undefined
    onWait(`${what} needs a table that another session has locked (pg_locks says which)`)
    return LOCK_POLL_MS
  })
}
