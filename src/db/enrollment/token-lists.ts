/** Lists enrollment tokens; each question has its own statement and index. */
import type { EnrollmentTokenStatus } from '../../domain/identity.ts'
import type { Labels } from '../../domain/labels.ts'
import { type ListPage, timeText } from '../list-page.ts'
import type { Query } from '../postgres/pool.ts'

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
  readonly labels: Labels
}

/** null matches any. */
export interface EnrollmentTokenFilter {
  readonly status: EnrollmentTokenStatus | null
  readonly alias: string | null
}

/** The status of a row now: revocation beats expiry, which beats use. */
export const STATUS = /* sql */ `
  case when revoked_at is not null then 'revoked'
       when expires_at <= now() then 'expired'
       when uses_consumed >= uses_allowed then 'exhausted'
       else 'active' end`

const COLUMNS = /* sql */ `
  token_id as "tokenId", alias as "alias", uses_allowed as "usesAllowed",
  uses_consumed as "usesConsumed", ${STATUS} as "status", ${timeText('issued_at')} as "issuedAt",
  ${timeText('expires_at')} as "expiresAt", ${timeText('revoked_at')} as "revokedAt",
  issued_by as "issuedBy", note as "note", labels as "labels"`
const BEFORE = /* sql */ `
  (issued_at, token_id) <
    (coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))`
const NEWEST = /* sql */ `order by t.issued_at desc, t.token_id desc limit $1`
const SELECT = /* sql */ `select ${COLUMNS} from enrollment_tokens t where ${BEFORE}`

const LIST = /* sql */ `${SELECT} ${NEWEST}`
/** Newest tokens that are scanned: nearly all of a long history have expired. */
const SCAN_LIMIT = 300
/**
 * `newest`: used or unused tokens in list order. `unexpired`: all valid tokens, which are few, if that did not fill
 * the page. The array keeps each lookup on its index, since no limit makes the list's order look cheaper.
 */
const unexpired = (status: 'active' | 'exhausted') => /* sql */ `
  with newest as materialized (
    select t.token_id
    from (
      select token_id, issued_at, expires_at, uses_consumed >= uses_allowed as is_used from enrollment_tokens
      where ${BEFORE} and revoked_at is null and (uses_consumed >= uses_allowed) = any (array[${status === 'exhausted'}])
      order by (uses_consumed >= uses_allowed), issued_at desc, token_id desc
      limit ${SCAN_LIMIT}) t
    where t.expires_at > now() order by t.is_used, t.issued_at desc, t.token_id desc limit $1),
  unexpired as materialized (
    select * from enrollment_tokens
    where (select count(*) from newest) < $1 and expires_at > now() and revoked_at is null),
  rest as materialized (
    select t.token_id from unexpired t where ${BEFORE} and ${STATUS} = '${status}' ${NEWEST})
  select ${COLUMNS} from enrollment_tokens t
  where token_id = any (array(select token_id from newest union all select token_id from rest))
  order by t.issued_at desc, t.token_id desc`
/** Nearly all of a history: read in list order past the valid ones. */
const EXPIRED = /* sql */ `and revoked_at is null and expires_at <= now()`
const LIST_EXPIRED = /* sql */ `${SELECT} ${EXPIRED} ${NEWEST}`
const LIST_REVOKED = /* sql */ `${SELECT} and revoked_at is not null ${NEWEST}`

/** `between`: see audit.ts. */
const OF_ALIAS = /* sql */ `and alias between $4 and $4`
const NEWEST_OF_ALIAS = /* sql */ `order by t.alias, t.issued_at desc, t.token_id desc limit $1`
const LIST_OF_ALIAS = /* sql */ `${SELECT} ${OF_ALIAS} ${NEWEST_OF_ALIAS}`
const LIST_EXPIRED_OF_ALIAS = /* sql */ `${SELECT} ${OF_ALIAS} ${EXPIRED} ${NEWEST_OF_ALIAS}`
const LIST_REVOKED_OF_ALIAS = /* sql */ `
  ${SELECT} ${OF_ALIAS} and revoked_at is not null ${NEWEST_OF_ALIAS}`
/** > -infinity: the condition of the index (sql/0020), which keeps other lists off it. */
const unexpiredOfAlias = (status: 'active' | 'exhausted') => /* sql */ `
  with unexpired as materialized (
    select * from enrollment_tokens
    where revoked_at is null ${OF_ALIAS} and expires_at > now() and expires_at > '-infinity')
  select ${COLUMNS} from unexpired t where ${BEFORE} and ${STATUS} = '${status}' ${NEWEST}`

export function listQuery(
  { limit, after }: ListPage,
  { status, alias }: EnrollmentTokenFilter,
): Query {
  const { of, ofAlias } = STATEMENTS[status ?? 'any']
  const name = status === null ? 'enrollment_tokens.list' : `enrollment_tokens.list_${status}`
  const values = [limit, after?.at ?? null, after?.id ?? null]
  return alias === null
    ? { name, text: of, values }
    : { name: `${name}_of_alias`, text: ofAlias, values: [...values, alias] }
}

const STATEMENTS: Readonly<
  Record<EnrollmentTokenStatus | 'any', Readonly<Record<'of' | 'ofAlias', string>>>
> = {
  any: { of: LIST, ofAlias: LIST_OF_ALIAS },
  active: { of: unexpired('active'), ofAlias: unexpiredOfAlias('active') },
  exhausted: { of: unexpired('exhausted'), ofAlias: unexpiredOfAlias('exhausted') },
  expired: { of: LIST_EXPIRED, ofAlias: LIST_EXPIRED_OF_ALIAS },
  revoked: { of: LIST_REVOKED, ofAlias: LIST_REVOKED_OF_ALIAS },
}
