/**
 * Advances sequences of identity columns that are behind their table. Logical replication and partial restores bring
 * rows but not the sequence, and the next insert would fail with a number in use (23505).
 */
import type pg from 'pg'

/** An advanced sequence. */
export interface AdvancedSequence {
  readonly table: string
  /** The next number before and after. */
  readonly from: number
  readonly to: number
}

interface Owned {
  /** Quoted if needed. */
  readonly table: string
  readonly column: string
  readonly sequence: string
  /** The role may read and set it, and read and lock the table. */
  readonly isOurs: boolean
}

interface Position {
  /** null for an empty table. int8 as text. */
  readonly highest: string | null
  readonly next: string
}

/** Identity columns (i) and serial ones (a). */
const OWNED = /* sql */ `
  select c.oid::regclass::text as "table", quote_ident(a.attname) as "column", s.oid::regclass::text as "sequence",
    has_sequence_privilege(s.oid, 'select') and has_sequence_privilege(s.oid, 'update')
      and has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'update') as "isOurs"
  from unnest($1::text[]) as name
  join pg_class c on c.oid = to_regclass(quote_ident(name))
  join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.deptype in ('i', 'a')
  join pg_class s on d.classid = 'pg_class'::regclass and s.oid = d.objid and s.relkind = 'S'
  join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
  order by 1`

/** For ascending sequences; there are no others. */
const positionOf = ({ table, column, sequence }: Owned) => /* sql */ `
  select (select max(${column}) from ${table})::text as "highest",
    (case when is_called then last_value + 1 else last_value end)::text as "next"
  from ${sequence}`

export interface SequenceCheck {
  readonly advanced: readonly AdvancedSequence[]
  /** Sequences that the role may not read or set. */
  readonly closed: readonly string[]
}

/**
 * Runs in the caller's transaction. Locks a table only if its sequence is behind: no insert happens until the commit,
 * so no number is used twice, whichever replica starts and whichever release writes at the same time.
 */
export async function advanceSequences(
  client: pg.ClientBase,
  tables: readonly string[],
): Promise<SequenceCheck> {
  const { rows: owned } = await client.query<Owned>(OWNED, [tables])
  const advanced: AdvancedSequence[] = []
  for (const each of owned.filter(({ isOurs }) => isOurs)) {
    if ((await behind(client, each)) === undefined) continue
    await client.query(`lock table ${each.table} in share row exclusive mode`)
    const found = await behind(client, each)
    if (found === undefined) continue
    await client.query('select setval($1::regclass, $2)', [each.sequence, found.highest])
    advanced.push({
      table: each.table,
      from: Number(found.next),
      to: Number(found.highest) + 1,
    })
  }
  const closed = owned.filter(({ isOurs }) => !isOurs).map(({ sequence }) => sequence)
  return { advanced, closed }
}

/** undefined if the next number is above all used ones. */
async function behind(
  client: pg.ClientBase,
  owned: Owned,
): Promise<{ readonly highest: string; readonly next: string } | undefined> {
  const { rows } = await client.query<Position>(positionOf(owned))
  const { highest = null, next = '' } = rows[0] ?? {}
  return highest !== null && BigInt(next) <= BigInt(highest) ? { highest, next } : undefined
}
