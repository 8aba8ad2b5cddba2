/**
 * Identity columns whose sequence is behind its table: logical replication and a partial restore bring rows, and leave
 * the sequence where it was. The next insert would take a number that is in use (23505).
 */
import type pg from 'pg'

/** A sequence that was moved on. */
export interface AdvancedSequence {
  readonly table: string
  /** The next number it would have given, and the one it gives now. */
  readonly from: number
  readonly to: number
}

interface Owned {
  /** Quoted where they must be. */
  readonly table: string
  readonly column: string
  readonly sequence: string
  /** The role may read and set it, read the table and lock it. */
  readonly isOurs: boolean
}

interface Position {
  /** Null where the table is empty. int8, as text. */
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

/** Only ascending ones: no other is made here. */
const positionOf = ({ table, column, sequence }: Owned) => /* sql */ `
  select (select max(${column}) from ${table})::text as "highest",
    (case when is_called then last_value + 1 else last_value end)::text as "next"
  from ${sequence}`

export interface SequenceCheck {
  readonly advanced: readonly AdvancedSequence[]
  /** Sequences that the role may not read and set. */
  readonly closed: readonly string[]
}

/**
 * Inside a transaction, which the caller commits. A table is locked only where its sequence is behind: until the commit
 * nobody inserts, so no number is given twice, whoever else starts, and whichever release writes beside this one.
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

/** Undefined where the next number is above all that are in use. */
async function behind(
  client: pg.ClientBase,
  owned: Owned,
): Promise<{ readonly highest: string; readonly next: string } | undefined> {
  const { rows } = await client.query<Position>(positionOf(owned))
  const { highest = null, next = '' } = rows[0] ?? {}
  return highest !== null && BigInt(next) <= BigInt(highest) ? { highest, next } : undefined
}
