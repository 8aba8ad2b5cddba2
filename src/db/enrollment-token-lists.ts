/** The list of enrollment tokens, one statement for each question, each read by an index of its own. */
import type { EnrollmentTokenStatus } from '../core/identity.ts'
import { type ListPage, timeText } from './audit.ts'
import type { Query } from './pool.ts'

export interface EnrollmentTokenRow {
  readonly tokenId: string
  readonly alias: string | null
  readonly usesAllowed: number
  readonly usesConsumed: number
  readonly status: EnrollmentTokenStatus
  readonly issuedAt: string
  readonly expiresAt: string
  readonly revokedAt: string | null
  readonly issuedBy: string
  readonly note: string | null
}

/** null: any. */
export interface EnrollmentTokenFilter {
  readonly status: EnrollmentTokenStatus | null
  readonly alias: string | null
}

/** One rule for all: which status a row has now. Revocation is the strongest word, then time, then uses. */
export const STATUS = /* sql */ `
  case when revoked_at is not null then 'revoked'
       when expires_at <= now() then 'expired'
       when uses_consumed >= uses_allowed then 'exhausted'
       else 'active' end`

const COLUMNS = /* sql */ `
  token_id as "tokenId", alias as "alias", uses_allowed as "usesAllowed",
  uses_consumed as "usesConsumed", ${STATUS} as "status", ${timeText('issued_at')} as "issuedAt",
  ${timeText('expires_at')} as "expiresAt", ${timeText('revoked_at')} as "revokedAt",
  issued_by as "issuedBy", note as "note"`
const BEFORE = /* sql */ `
  (issued_at, token_id) <
    (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))`
const NEWEST = /* sql */ `order by t.issued_at desc, t.token_id desc limit $1`
const SELECT = /* sql */ `select ${COLUMNS} from enrollment_tokens t where ${BEFORE}`

const LIST = /* sql */ `${SELECT} ${NEWEST}`
/** Found among those that have not expired, which are few: nearly all of a long history has. */
const LIST_UNEXPIRED = /* sql */ `
  with unexpired as materialized (
    select * from enrollment_tokens where expires_at > now() and revoked_at is null)
  select ${COLUMNS} from unexpired t where ${BEFORE} and ${STATUS} = $4 ${NEWEST}`
/** Nearly all of a history: in the order of the list, past those that are still valid. */
const LIST_EXPIRED = /* sql */ `${SELECT} and revoked_at is null and expires_at <= now() ${NEWEST}`
const LIST_REVOKED = /* sql */ `${SELECT} and revoked_at is not null ${NEWEST}`
/** `between`: as in audit.ts. */
const LIST_OF_ALIAS = /* sql */ `
  ${SELECT} and alias between $4 and $4 and ($5::text is null or ${STATUS} = $5)
  order by t.alias, t.issued_at desc, t.token_id desc limit $1`

export function listQuery(
  { limit, after }: ListPage,
  { status, alias }: EnrollmentTokenFilter,
): Query {
  const values = [limit, after?.at ?? null, after?.id ?? null]
  if (alias !== null) {
    const name = 'enrollment_tokens.list_of_alias'
    return { name, text: LIST_OF_ALIAS, values: [...values, alias, status] }
  }
  switch (status) {
    case null:
      return { name: 'enrollment_tokens.list', text: LIST, values }
    case 'expired':
      return { name: 'enrollment_tokens.list_expired', text: LIST_EXPIRED, values }
    case 'revoked':
      return { name: 'enrollment_tokens.list_revoked', text: LIST_REVOKED, values }
    case 'active':
    case 'exhausted':
      return {
        name: 'enrollment_tokens.list_unexpired',
        text: LIST_UNEXPIRED,
        values: [...values, status],
      }
  }
}
