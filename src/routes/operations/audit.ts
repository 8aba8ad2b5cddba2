/** GET /admin/audit: who did what, newest first. */

import type { AuditRow } from '../../db/audit.ts'
import { AUDIT_WHATS, type AuditWhat } from '../../domain/audit.ts'
import { invalidField } from '../../domain/errors.ts'
import { ADMIN_NAME, ALIAS, REQUEST_ID } from '../../domain/ids.ts'
import { queryString, queryTimeRange } from '../../http/fields.ts'
import { hint } from '../../http/known-names.ts'
import { listReply, readPage } from '../../http/page.ts'
import type { Endpoint } from '../../http/route.ts'
import type { Operations } from './feature.ts'

/** audit_id is a bigint: its decimal digits. */
const isAuditId = (id: string) => /^\d{1,18}$/.test(id)

export function listAuditEndpoint({ audit }: Operations): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const page = readPage(query, 'audit', isAuditId)
      const read = await audit.list(page, {
        ...queryTimeRange(query),
        admin: queryString(query, 'admin', 64, ADMIN_NAME) ?? null,
        what: readWhat(query.get('what')),
        subject: queryString(query, 'subject', 128, REQUEST_ID) ?? null,
        alias: queryString(query, 'alias', 64, ALIAS) ?? null,
      })
      return listReply(read, page, (row) => row, entryJson)
    },
  }
}

function readWhat(text: string | null): AuditWhat | null {
  const what = AUDIT_WHATS.find((known) => known === text)
  if (what !== undefined || text === null) return what ?? null
  throw invalidField('what', `must be a kind of change. ${hint(text, AUDIT_WHATS)}`)
}

function entryJson(row: AuditRow) {
  return {
    at: row.at,
    admin: row.admin,
    what: row.what,
    subject: row.subject,
    request_id: row.requestId,
    ip: row.ip,
    detail: row.detail,
  }
}
