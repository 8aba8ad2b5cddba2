/** The audit log: who changed which token, command, device or build. Written in the transaction of the change. */
import type { AuditWhat } from '../domain/audit.ts'
import type { TimeRange } from '../domain/instants.ts'
import { type ListPage, timeText } from './list-page.ts'
import type { Database, Query, Queryable } from './postgres/pool.ts'

export interface AuditEntry {
  /** null: a device, with an enrollment token. */
  readonly admin: string | null
  readonly what: AuditWhat
  readonly subject: string
  readonly requestId: string
  readonly ip: string | null
  readonly detail?: Readonly<Record<string, unknown>>
}

export interface AuditRow {
  readonly at: string
  readonly id: string
  readonly admin: string | null
  readonly what: string
  readonly subject: string
  readonly requestId: string
  readonly ip: string | null
  readonly detail: Readonly<Record<string, unknown>> | null
}

const INSERT = /* sql */ `
  insert into audit_log (admin, what, subject, request_id, ip, detail)
  select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[])`

/** Sorts by the indexed column, not by its text, which has the same name. */
const list = (filter: string, order: string) => /* sql */ `
  select ${timeText('at')} as "at", audit_id::text as "id", admin as "admin", what as "what",
    subject as "subject", request_id as "requestId", ip as "ip", detail as "detail"
  from audit_log
  where (at, audit_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::bigint, 0))
    and at >= coalesce($4::timestamptz, '-infinity') ${filter}
  order by ${order} audit_log.at desc, audit_id desc
  limit $1`
const LIST = list('', '')
/** Only the admin's index can sort this. By time, a former admin's entries would be searched among all later ones. */
const LIST_OF_ADMIN = list('and admin = any (array[$5::text])', 'audit_log.admin,')
/** Of one kind of change, by its index (sql/0023); and of one admin. */
const LIST_OF_WHAT = list('and what = any (array[$5::text])', 'audit_log.what,')
const LIST_OF_ADMIN_WHAT = list(
  'and admin = any (array[$5::text]) and what = $6',
  'audit_log.admin,',
)
/**
 * The narrowest filter finds the rows; the others are applied to these. `between`: for an equality the generic plan
 * expects few rows of an alias and sorts them all, even 100,000; for a range it reads a page in index order.
 */
const LIST_OF_ALIAS = list(
  `and detail->>'alias' is not null and detail->>'alias' between $5 and $5
    and ($6::text is null or admin = $6) and ($7::text is null or what = $7)`,
  `(audit_log.detail->>'alias'),`,
)
/** As LIST_OF_ADMIN: for a range PostgreSQL 15 sorted all 33,333 rows of a busy subject. */
const LIST_OF_SUBJECT = list(
  `and subject = any (array[$5::text]) and ($6::text is null or admin = $6)
    and ($7::text is null or what = $7) and ($8::text is null or detail->>'alias' = $8)`,
  'audit_log.subject,',
)

export async function writeAudit(tx: Queryable, ...entries: readonly AuditEntry[]): Promise<void> {
  await tx.query({
    name: 'audit.insert',
    text: INSERT,
    values: [
      entries.map((entry) => entry.admin),
      entries.map((entry) => entry.what),
      entries.map((entry) => entry.subject),
      entries.map((entry) => entry.requestId),
      entries.map((entry) => entry.ip),
      entries.map((entry) => (entry.detail === undefined ? null : JSON.stringify(entry.detail))),
    ],
  })
}

/** null matches any. */
export interface AuditFilter extends TimeRange {
  readonly what: AuditWhat | null
  readonly admin: string | null
  /** Id of the changed token, command, device or build. */
  readonly subject: string | null
  /** Alias of the device, or of the enrollment token. */
  readonly alias: string | null
}

export interface AuditStore {
  /** Newest first. */
  list(page: ListPage, filter: AuditFilter): Promise<readonly AuditRow[]>
}

export function auditStore(database: Database): AuditStore {
  return {
    async list(page, filter) {
      return (await database.query<AuditRow>(listQuery(page, filter))).rows
    },
  }
}

function listQuery({ limit, after }: ListPage, filter: AuditFilter): Query {
  const { since, until, admin, what, subject, alias } = filter
  // Earlier than `until` is before its first id, so that one key bounds the page.
  const isAfter = after !== null && (until === null || after.at < until)
  const values = [limit, isAfter ? after.at : until, isAfter ? after.id : null, since]
  if (subject !== null) {
    const of = [subject, admin, what, alias]
    return { name: 'audit.list_of_subject', text: LIST_OF_SUBJECT, values: [...values, ...of] }
  }
  if (alias !== null) {
    const of = [alias, admin, what]
    return { name: 'audit.list_of_alias', text: LIST_OF_ALIAS, values: [...values, ...of] }
  }
  if (what !== null) {
    return admin === null
      ? { name: 'audit.list_of_what', text: LIST_OF_WHAT, values: [...values, what] }
      : {
          name: 'audit.list_of_admin_what',
          text: LIST_OF_ADMIN_WHAT,
          values: [...values, admin, what],
        }
  }
  if (admin !== null) {
    return { name: 'audit.list_of_admin', text: LIST_OF_ADMIN, values: [...values, admin] }
  }
  return { name: 'audit.list', text: LIST, values }
}
