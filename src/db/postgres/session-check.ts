/**
 * Checks the session settings that our statements and the durability of their commits depend on.
 *
 * A role, database or server may change any of them (`alter database … set datestyle`). Each connection pins those
 * that it may set (`pinned`) and checks the rest once, also after a failover or a change meanwhile.
 */
import type pg from 'pg'
import { ReadOnlyServerError, type ServerClient } from './server-client.ts'

interface RequiredSetting {
  readonly name: string
  /** As the server prints it. */
  readonly value: string
  /** `pinned`: each connection sets it. `superuser`: only one may. `safety`: ALLOW_UNSAFE_DATABASE skips it. */
  readonly kind?: 'pinned' | 'superuser' | 'safety'
  /** Other accepted values, if it is not pinned. */
  readonly accepts?: RegExp
  /** How to fix it, if `alter role` does not help. */
  readonly fix?: string
}

/** A database's encoding cannot be changed; a dump moves the rows. */
const NEW_DATABASE =
  "create another one (create database … encoding 'UTF8' locale 'C' template template0), and move the data with pg_dump and pg_restore"

// biome-ignore format: one row a setting
const REQUIRED_SETTINGS: readonly RequiredSetting[] = [
  { name: 'server_encoding', value: 'UTF8', fix: NEW_DATABASE },
  { name: 'client_encoding', value: 'UTF8' }, // pg requests it
  // Text forms of values.
  { name: 'datestyle', value: 'ISO, MDY', kind: 'pinned', accepts: /^ISO/ },
  { name: 'intervalstyle', value: 'postgres', kind: 'pinned' },
  // Every timestamp that we send or read carries its zone.
  { name: 'timezone', value: 'UTC', kind: 'pinned', accepts: /./ },
  { name: 'bytea_output', value: 'hex', kind: 'pinned' },
  { name: 'extra_float_digits', value: '1', kind: 'pinned', accepts: /^[1-3]$/ },
  { name: 'standard_conforming_strings', value: 'on', kind: 'pinned' },
  { name: 'array_nulls', value: 'on', kind: 'pinned' },
  { name: 'transform_null_equals', value: 'off', kind: 'pinned' },
  // Isolation, locks and storage.
  { name: 'default_transaction_isolation', value: 'read committed', kind: 'pinned' },
  { name: 'default_transaction_deferrable', value: 'off', kind: 'pinned' },
  { name: 'row_security', value: 'on', kind: 'pinned' },
  { name: 'default_table_access_method', value: 'heap', kind: 'pinned' },
  { name: 'exit_on_error', value: 'off', kind: 'pinned' },
  // Shows the warning of a commit that no longer waits for its standby.
  { name: 'client_min_messages', value: 'notice', kind: 'pinned', accepts: /^(debug[1-5]|log|warning)$/ },
  // Exists from 17 on, so it cannot be a start-up option. A build of 200 MiB and a migration need their time.
  { name: 'transaction_timeout', value: '0' },
  { name: 'session_replication_role', value: 'origin', kind: 'superuser' },
  { name: 'zero_damaged_pages', value: 'off', kind: 'superuser' },
  { name: 'ignore_checksum_failure', value: 'off', kind: 'superuser' },
  // Acknowledged data is on disk, or also on a standby's.
  { name: 'fsync', value: 'on', kind: 'safety', fix: 'alter system set fsync = on, and reload the server' },
  { name: 'full_page_writes', value: 'on', kind: 'safety', fix: 'alter system set full_page_writes = on, and reload the server' },
  { name: 'synchronous_commit', value: 'on', kind: 'safety', accepts: /^remote_(write|apply)$/ },
]

const MIN_VERSION = 140_000

/** For connections that may have start-up options. */
export const PINNED_SETTINGS: Readonly<Record<string, string>> = Object.fromEntries(
  REQUIRED_SETTINGS.filter(({ kind }) => kind === 'pinned').map(({ name, value }) => [name, value]),
)

/** The same for one transaction, even through a pooler. */
export const PIN_LOCALLY = Object.entries(PINNED_SETTINGS)
  .map(([name, value]) => `set local ${name} = '${value}'`)
  .join('; ')

const SETTINGS = REQUIRED_SETTINGS.map(
  ({ name }) => `'${name}', pg_catalog.current_setting('${name}', true)`,
)
/** Qualified because search_path itself is in question. Without parameters it takes one round trip. */
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
  /** Quoted if needed. */
  readonly role: string
  readonly database: string
  /** Such as 180004. */
  readonly version: number
  readonly searchPath: string
  /** Where tables are created; null: nowhere. */
  readonly schema: string | null
  /** Where names are resolved first. */
  readonly firstSchema: string | null
  /** By name; null if the server lacks the setting. */
  readonly settings: Readonly<Record<string, string | null>>
}

export interface SessionRules {
  readonly isUnsafeAllowed: boolean
  /** False if the pinned settings are set later, within each transaction. */
  readonly arePinsChecked: boolean
}

/** The session must not be used. Class 08: no connection. */
export class SessionError extends Error {
  override readonly name = 'SessionError'
  readonly code = '08004'
  /** One sentence each: the setting, its value, what to do. */
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('; '))
    this.faults = faults
  }
}

/** Queries `client` once, within `timeoutMs`. Throws ReadOnlyServerError, which a pooled connection learns only here. */
export async function readSession(client: pg.ClientBase, timeoutMs: number): Promise<SessionFacts> {
  const query: pg.QueryConfig & pg.ClientConfig = { text: SESSION_FACTS, query_timeout: timeoutMs }
  const { rows } = await client.query<SessionFacts>(query)
  const [facts] = rows
  if (facts === undefined) throw new Error('the server says nothing of the session')
  if (facts.readOnly === 'on') {
    const reason = facts.isStandby ? 'in_hot_standby' : 'default_transaction_read_only'
    throw new ReadOnlyServerError(new Set([reason]))
  }
  return facts
}

/** One sentence each; empty if there is no fault. */
export function sessionFaults(facts: SessionFacts, rules: SessionRules): readonly string[] {
  const { version, settings } = facts
  if (version < MIN_VERSION) {
    const release = `${Math.floor(version / 10_000)}.${version % 10_000}`
    return [`the server is PostgreSQL ${release}; this release needs 14 to 18`]
  }
  const faults = REQUIRED_SETTINGS.map((setting) =>
    settingFault(setting, settings[setting.name], facts, rules),
  )
  return [...faults, schemaFault(facts)].filter((fault) => fault !== undefined)
}

function settingFault(
  { name, value, kind, accepts, fix }: RequiredSetting,
  found: string | null | undefined,
  { role, database }: SessionFacts,
  rules: SessionRules,
): string | undefined {
  if (kind === 'safety' && rules.isUnsafeAllowed) return undefined
  if (kind === 'pinned' && !rules.arePinsChecked) return undefined
  if (found === null || found === undefined || found === value || accepts?.test(found)) return
  // Of all ways to set it for a session, this one takes precedence.
  const own = `alter role ${role} in database ${database} set ${name} = '${value}'`
  const who = kind === 'superuser' ? ' (as a superuser)' : ''
  const risk =
    kind === 'safety'
      ? '; what is acknowledged may be lost until then. Or set ALLOW_UNSAFE_DATABASE=true for data that may be'
      : ''
  return `${name} is ${shown(found)} and must be ${shown(value)}: ${fix ?? own}${who}${risk}`
}

function schemaFault(facts: SessionFacts): string | undefined {
  const { role, database, schema, firstSchema, searchPath } = facts
  const path = `search_path is ${shown(searchPath)}`
  const fix = `alter role ${role} in database ${database} set search_path = public`
  if (schema === null) return `${path}, and ${role} can see no schema of it: ${fix}`
  const names = searchPath.split(',').map((name) => name.trim().replaceAll('"', ''))
  const temp = names.indexOf('pg_temp')
  const isTemporary =
    temp !== -1 && !names.slice(0, temp).some((name) => [schema, '$user'].includes(name))
  if (schema === 'pg_catalog' || isTemporary) {
    return `${path}, by which tables would be made in ${isTemporary ? 'pg_temp, and lost' : schema}: ${fix}`
  }
  if (firstSchema === 'pg_catalog') return undefined
  return `${path}, which puts ${firstSchema} before PostgreSQL's own functions and tables: ${fix}`
}

function shown(text: string): string {
  return JSON.stringify(text)
}

/** Checks a new connection within `timeoutMs`; throws SessionError or ReadOnlyServerError. */
export type VerifySession = (client: ServerClient, timeoutMs: number) => Promise<void>

/** Shared by all connections of a process: each must use the first one's schema, since others have other tables. */
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
