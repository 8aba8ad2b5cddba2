/** Checks at start, after migration, the role's privileges and other facts that the operator should know. */
import type { Queryable } from '../postgres/pool.ts'
import { HOT_SETTINGS } from '../stores.ts'

/** Needed on nearly every table: expired rows are deleted, `for update`. */
const PRIVILEGES = ['select', 'insert', 'update', 'delete'] as const

/** Settings that connections get from us or, behind a pooler, should get from the role; null: any value but 0. */
const ROLE_SETTINGS: Readonly<Record<string, string | null>> = {
  ...HOT_SETTINGS,
  jit: 'off',
  lock_timeout: null,
  statement_timeout: null,
  idle_in_transaction_session_timeout: null,
}

const FACTS = /* sql */ `
  with t as (
    select name, privilege, c.oid, c.relowner from unnest($1::text[]) as name cross join unnest($2::text[]) as privilege
    left join pg_class c on c.oid = to_regclass(name))
  select quote_ident(current_user) as "role", quote_ident(current_database()) as "database",
    quote_ident(current_schema()) as "schema",
    has_schema_privilege(current_schema(), 'create') as "mayCreate",
    array(select distinct name from t where oid is null) as "missing",
    array(select privilege || ' on ' || name from t where not has_table_privilege(oid, privilege)) as "closed",
    array(select distinct name from t where row_security_active(oid)) as "filtered",
    (select bool_and(pg_has_role(relowner, 'usage')) from t where name = 'heartbeats') as "ownsHeartbeats",
    array(select current_setting(name) from unnest($3::text[]) as name) as "roleSettings",
    current_setting('server_version_num')::int as "version",
    current_setting('max_connections')::int as "maxConnections",
    current_setting('superuser_reserved_connections')::int
      + coalesce(current_setting('reserved_connections', true)::int, 0) as "reserved",
    (select rolconnlimit from pg_roles where rolname = session_user) as "roleLimit",
    (select datconnlimit from pg_database where datname = current_database()) as "databaseLimit"`

/** Available from 15 on. */
const COLLATION = /* sql */ `
  select datcollversion as "made", pg_database_collation_actual_version(oid) as "found"
  from pg_database where datname = current_database()
    and datcollversion <> pg_database_collation_actual_version(oid)`
const COLLATION_VERSION = 150_000

interface Facts {
  readonly role: string
  readonly database: string
  readonly schema: string
  readonly mayCreate: boolean
  readonly missing: readonly string[]
  readonly closed: readonly string[]
  readonly filtered: readonly string[]
  readonly ownsHeartbeats: boolean | null
  /** In the order of ROLE_SETTINGS. */
  readonly roleSettings: readonly string[]
  readonly version: number
  readonly maxConnections: number
  readonly reserved: number
  /** -1: none. */
  readonly roleLimit: number | null
  readonly databaseLimit: number | null
}

export interface DatabaseCheck {
  /** Faults that prevent serving, one sentence each. */
  readonly faults: readonly string[]
  /** Notes, one sentence each; serving works. */
  readonly notes: readonly string[]
}

/** `tables`: made by the migrations. `connections`: what this replica takes from the server; null behind a pooler. */
export async function checkDatabase(
  database: Queryable,
  tables: readonly string[],
  connections: number | null,
): Promise<DatabaseCheck> {
  const { rows } = await database.query<Facts>({
    name: 'database_check.facts',
    text: FACTS,
    values: [tables, PRIVILEGES, Object.keys(ROLE_SETTINGS)],
  })
  const [facts] = rows
  if (facts === undefined) throw new Error('the database says nothing of itself')
  return {
    faults: rightFaults(facts),
    notes: [
      ...(connections === null ? roleNotes(facts) : connectionNotes(facts, connections)),
      ...(await collationNotes(database, facts)),
    ],
  }
}

function rightFaults(facts: Facts): readonly string[] {
  const { role, database, schema, missing, closed, filtered } = facts
  if (missing.length > 0) {
    return [
      `${role} finds no table ${missing.join(', ')} in schema ${schema}, where the migrations should have made them: MIGRATE_DATABASE_URL and DATABASE_URL must lead to the same database and, by search_path, to the same schema`,
    ]
  }
  const faults: string[] = []
  if (closed.length > 0) {
    faults.push(
      `${role} lacks ${closed.join(', ')}: grant select, insert, update, delete on all tables in schema ${schema} to ${role}`,
    )
  }
  if (filtered.length > 0) {
    faults.push(
      `row security hides rows of ${filtered.join(', ')} from ${role}: alter table … disable row level security, or let ${role} own the tables`,
    )
  }
  // The service creates and drops daily partitions.
  if (facts.ownsHeartbeats !== true || !facts.mayCreate) {
    faults.push(
      `${role} must own the table heartbeats and create tables in schema ${schema}, each day's anew: alter table heartbeats owner to ${role}; grant create on schema ${schema} to ${role} (or all at once: alter database ${database} owner to ${role})`,
    )
  }
  return faults
}

/** Without these settings things are slower or take longer, but work. */
function roleNotes({ roleSettings }: Facts): readonly string[] {
  const lacking = Object.entries(ROLE_SETTINGS).filter(([, value], index) =>
    value === null ? roleSettings[index] === '0' : roleSettings[index] !== value,
  )
  if (lacking.length === 0) return []
  const names = lacking.map(([name]) => name).join(', ')
  return [
    `through a pooler the role needs settings of its own for ${names}: docs/operate/scale.md, PgBouncer`,
  ]
}

function connectionNotes(facts: Facts, connections: number): readonly string[] {
  const limits = [
    ['max_connections', facts.maxConnections - facts.reserved],
    [`the connection limit of role ${facts.role}`, facts.roleLimit],
    [`the connection limit of database ${facts.database}`, facts.databaseLimit],
  ] as const
  return limits
    .filter(([, limit]) => limit !== null && limit >= 0 && limit < connections)
    .map(
      ([what, limit]) =>
        `${what} leaves ${limit} connections, and this replica takes ${connections} (DATABASE_POOL_MAX, and one to migrate): raise it, or lower DATABASE_POOL_MAX`,
    )
}

/** If text sorts differently than when the indexes were built, they may miss existing rows, even unique ones. */
async function collationNotes(database: Queryable, facts: Facts): Promise<readonly string[]> {
  if (facts.version < COLLATION_VERSION) return []
  const { rows } = await database.query<{ made: string; found: string }>({
    name: 'database_check.collation',
    text: COLLATION,
  })
  return rows.map(
    ({ made, found }) =>
      `the operating system sorts text otherwise than when the database was made (collation version ${made}, now ${found}), so its indexes may miss rows: reindex database ${facts.database}; alter database ${facts.database} refresh collation version`,
  )
}
