/**
 * What a session must be like for our statements to mean what they say, and for what it acknowledges to last.
 *
 * A role, a database or a server may set each of these to something else (`alter database … set datestyle`). Every
 * connection pins what it may (`pinned`), and is asked once for the rest, also after a failover or a change meanwhile.
 */
import type pg from 'pg'
import { ReadOnlyServerError, type ServerClient } from './server-client.ts'

interface RequiredSetting {
  readonly name: string
  /** As the server shows it. */
  readonly value: string
  /**
   * `pinned`: anybody may set it, in every release from 14 on, so each connection does. `superuser`: nobody else may.
   * `safety`: ALLOW_UNSAFE_DATABASE lets it pass.
   */
  readonly kind?: 'pinned' | 'superuser' | 'safety'
  /** What else will do, where it is not pinned. */
  readonly accepts?: RegExp
  /** What to do where `alter role` is no help. */
  readonly cure?: string
}

/** The encoding of a database cannot be changed; a dump carries the rows over. */
const NEW_DATABASE =
  "create another one (create database … encoding 'UTF8' locale 'C' template template0), and move the data with pg_dump and pg_restore"

// biome-ignore format: one row a setting
const REQUIRED_SETTINGS: readonly RequiredSetting[] = [
  { name: 'server_encoding', value: 'UTF8', cure: NEW_DATABASE },
  { name: 'client_encoding', value: 'UTF8' }, // pg asks for it
  // How values are written and read.
  { name: 'datestyle', value: 'ISO, MDY', kind: 'pinned', accepts: /^ISO/ },
  { name: 'intervalstyle', value: 'postgres', kind: 'pinned' },
  // Every time that we send or read carries its zone.
  { name: 'timezone', value: 'UTC', kind: 'pinned', accepts: /./ },
  { name: 'bytea_output', value: 'hex', kind: 'pinned' },
  { name: 'extra_float_digits', value: '1', kind: 'pinned', accepts: /^[1-3]$/ },
  { name: 'standard_conforming_strings', value: 'on', kind: 'pinned' },
  { name: 'array_nulls', value: 'on', kind: 'pinned' },
  { name: 'transform_null_equals', value: 'off', kind: 'pinned' },
  // What a statement sees, locks and leaves behind.
  { name: 'default_transaction_isolation', value: 'read committed', kind: 'pinned' },
  { name: 'default_transaction_deferrable', value: 'off', kind: 'pinned' },
  { name: 'row_security', value: 'on', kind: 'pinned' },
  { name: 'default_table_access_method', value: 'heap', kind: 'pinned' },
  { name: 'exit_on_error', value: 'off', kind: 'pinned' },
  // From 17 on, so that no start-up option may name it. A build of 200 MiB and a migration take their time.
  { name: 'transaction_timeout', value: '0' },
  { name: 'session_replication_role', value: 'origin', kind: 'superuser' },
  { name: 'zero_damaged_pages', value: 'off', kind: 'superuser' },
  { name: 'ignore_checksum_failure', value: 'off', kind: 'superuser' },
  // What is acknowledged is on disk, or (more than we ask for) on that of a standby as well.
  { name: 'fsync', value: 'on', kind: 'safety', cure: 'alter system set fsync = on, and reload the server' },
  { name: 'full_page_writes', value: 'on', kind: 'safety', cure: 'alter system set full_page_writes = on, and reload the server' },
  { name: 'synchronous_commit', value: 'on', kind: 'safety', accepts: /^remote_(write|apply)$/ },
]

const MIN_VERSION = 140_000

/** For every connection that may have start-up options. */
export const PINNED_SETTINGS: Readonly<Record<string, string>> = Object.fromEntries(
  REQUIRED_SETTINGS.filter(({ kind }) => kind === 'pinned').map(({ name, value }) => [name, value]),
)

/** The same for one transaction, whatever stands before the server. */
export const PIN_LOCALLY = Object.entries(PINNED_SETTINGS)
  .map(([name, value]) => `set local ${name} = '${value}'`)
  .join('; ')

const SETTINGS = REQUIRED_SETTINGS.map(
  ({ name }) => `'${name}', pg_catalog.current_setting('${name}', true)`,
)
/** Qualified, for search_path itself is in question. Without parameters it is one round trip. */
const SESSION_FACTS = /* sql */ `
  select pg_catalog.pg_is_in_recovery() as "isStandby",
    pg_catalog.current_setting('transaction_read_only') as "readOnly",
    pg_catalog.quote_ident(current_user) as "role",
    pg_catalog.quote_ident(pg_catalog.current_database()) as "database",
    pg_catalog.current_setting('server_version_num')::pg_catalog.int4 as "version",
    pg_catalog.current_setting('search_path') as "searchPath",
    pg_catalog.current_schema()::pg_catalog.text as "schema",
    (pg_catalog.current_schemas(true))[1]::pg_catalog.text as "firstSchema",
    pg_catalog.json_build_object(${SETTINGS.join(', ')}) as "settings"`

export interface SessionFacts {
  readonly isStandby: boolean
  /** `on` or `off`. */
  readonly readOnly: string
  /** Quoted where it must be. */
  readonly role: string
  readonly database: string
  /** Such as 180004. */
  readonly version: number
  readonly searchPath: string
  /** Where tables are made; null: nowhere. */
  readonly schema: string | null
  /** Where names are looked up first. */
  readonly firstSchema: string | null
  /** By name; null where the server has no such setting. */
  readonly settings: Readonly<Record<string, string | null>>
}

export interface SessionRules {
  readonly isUnsafeAllowed: boolean
  /** False where the pinned settings are set later, within each transaction. */
  readonly arePinsChecked: boolean
}

/** This session must not be used. Class 08: there is no connection. */
export class SessionError extends Error {
  override readonly name = 'SessionError'
  readonly code = '08004'
  /** A sentence each: the setting, its value, what to do. */
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('; '))
    this.faults = faults
  }
}

/**
 * Asks `client` once; takes `timeoutMs` at most. Throws ReadOnlyServerError: a direct connection has said so before, one
 * through a pooler has not.
 */
export async function readSession(client: pg.ClientBase, timeoutMs: number): Promise<SessionFacts> {
  const asked: pg.QueryConfig & pg.ClientConfig = { text: SESSION_FACTS, query_timeout: timeoutMs }
  const { rows } = await client.query<SessionFacts>(asked)
  const [facts] = rows
  if (facts === undefined) throw new Error('the server says nothing of the session')
  if (facts.readOnly === 'on') {
    const reason = facts.isStandby ? 'in_hot_standby' : 'default_transaction_read_only'
    throw new ReadOnlyServerError(new Set([reason]))
  }
  return facts
}

/** A sentence each; empty where all is well. */
export function sessionFaults(facts: SessionFacts, rules: SessionRules): readonly string[] {
  const { version, settings } = facts
  if (version < MIN_VERSION) {
    const release = `${Math.floor(version / 10_000)}.${version % 10_000}`
    return [`the server is PostgreSQL ${release}; this release needs 14 to 18`]
  }
  const faults = REQUIRED_SETTINGS.map((needed) =>
    settingFault(needed, settings[needed.name], facts, rules),
  )
  return [...faults, schemaFault(facts)].filter((fault) => fault !== undefined)
}

function settingFault(
  { name, value, kind, accepts, cure }: RequiredSetting,
  found: string | null | undefined,
  { role, database }: SessionFacts,
  rules: SessionRules,
): string | undefined {
  if (kind === 'safety' && rules.isUnsafeAllowed) return undefined
  if (kind === 'pinned' && !rules.arePinsChecked) return undefined
  if (found === null || found === undefined || found === value || accepts?.test(found)) return
  // Of all the places that can set it for a session this one counts most.
  const own = `alter role ${role} in database ${database} set ${name} = '${value}'`
  const who = kind === 'superuser' ? ' (as a superuser)' : ''
  const risk =
    kind === 'safety'
      ? '; what is acknowledged may be lost until then. Or set ALLOW_UNSAFE_DATABASE=true for data that may be'
      : ''
  return `${name} is ${shown(found)} and must be ${shown(value)}: ${cure ?? own}${who}${risk}`
}

function schemaFault(facts: SessionFacts): string | undefined {
  const { role, database, schema, firstSchema, searchPath } = facts
  const path = `search_path is ${shown(searchPath)}`
  const cure = `alter role ${role} in database ${database} set search_path = public`
  if (schema === null) return `${path}, and ${role} can see no schema of it: ${cure}`
  if (firstSchema === 'pg_catalog') return undefined
  return `${path}, which puts ${firstSchema} before PostgreSQL's own functions and tables: ${cure}`
}

function shown(text: string): string {
  return JSON.stringify(text)
}

/** Asks a new connection within `timeoutMs`; throws SessionError or ReadOnlyServerError. */
export type VerifySession = (client: ServerClient, timeoutMs: number) => Promise<void>

/**
 * One for all connections of a process: each must find its tables where the first one did. In another schema there are
 * others, or none.
 */
export function sessionVerifier(rules: SessionRules): VerifySession {
  let schema: string | null = null
  return async (client, timeoutMs) => {
    const facts = await readSession(client, timeoutMs)
    const faults = sessionFaults(facts, rules)
    if (faults.length > 0) throw new SessionError(faults)
    schema ??= facts.schema
    if (facts.schema === schema) return
    const fault = `search_path is ${shown(facts.searchPath)}, which leads to schema ${facts.schema}; when the service started it led to ${schema}: set it back, or restart the service`
    throw new SessionError([fault])
  }
}
