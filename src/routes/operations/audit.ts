/** GET /admin/audit: who did what, newest first. */

import type { AuditRow } from '../../db/audit.ts'
import { ADMIN_NAME, ALIAS, REQUEST_ID } from '../../domain/ids.ts'
import { queryString, queryTime } from '../../http/fields.ts'
import { listReply, readPage } from '../../http/page.ts'
import type { Endpoint } from '../../http/route.ts'
import type { Operations } from './feature.ts'

/** A kind of change, such as `device.delete`. */
const WHAT = /^[a-z_]{1,31}\.[a-z_]{1,31}$/
/** audit_id is a bigint: its decimal digits. */
const isAuditId = (id: string) => /^\d{1,18}$/.test(id)

export function listAuditEndpoint({ audit }: Operations): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const page = readPage(query, 'audit', isAuditId)
      const read = await audit.list(page, {
        since: queryTime(query, 'since') ?? null,
        until: queryTime(query, 'until') ?? null,
        admin: queryString(query, 'admin', 64, ADMIN_NAME) ?? null,
        what: queryString(query, 'what', 64, WHAT) ?? null,
        subject: queryString(query, 'subject', 128, REQUEST_ID) ?? null,
        alias: queryString(query, 'alias', 64, ALIAS) ?? null,
      })
      return listReply(read, page, (row) => row, entryJson)
    },
  }
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
