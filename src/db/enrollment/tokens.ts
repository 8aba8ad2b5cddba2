/** Owner of `enrollment_tokens`: issue, judge, consume, revoke, list. The status is computed, not stored. */
import type { EnrollmentTokenStatus, EnrollmentVerdict } from '../../domain/identity.ts'
import type { Labels } from '../../domain/labels.ts'
import { type AuditEntry, writeAudit } from '../audit.ts'
import { type ListPage, timeText } from '../list-page.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { type Batch, type BatchKey, findBatch, rememberBatch } from './batches.ts'
import {
  type EnrollmentTokenFilter,
  type EnrollmentTokenRow,
  listQuery,
  STATUS,
} from './token-lists.ts'

export interface NewEnrollmentToken {
  readonly tokenId: string
  readonly tokenHash: Buffer
  /** null: unbound. */
  readonly alias: string | null
}

export interface IssueOptions {
  readonly expiresInS: number
  readonly usesAllowed: number
  readonly note: string | null
  /** Of the phones that enroll with them. */
  readonly labels: Labels
  readonly admin: string
  readonly requestId: string
  readonly ip: string | null
  /** Tokens that this admin may create per sliding hour. */
  readonly maxPerHour: number
  /** undefined: the response cannot be repeated. */
  readonly batch: BatchKey | undefined
}

export type IssueOutcome =
  | { readonly kind: 'issued'; readonly expiresAt: string }
  /** This key and content made a batch before; nothing was created. */
  | { readonly kind: 'repeated'; readonly batch: Batch }
  /** The key made a batch with other content. */
  | { readonly kind: 'conflict' }
  | {
      readonly kind: 'rate_limited'
      /** Of `maxPerHour`. */
      readonly used: number
      readonly retryAfterS: number
    }

export interface EnrollmentTokenStore {
  issue(tokens: readonly NewEnrollmentToken[], options: IssueOptions): Promise<IssueOutcome>
  judge(tokenHash: Buffer): Promise<EnrollmentVerdict>
  /** In one statement; verdicts are in the order of the hashes. */
  judgeAll(tokenHashes: readonly Buffer[]): Promise<readonly EnrollmentVerdict[]>
  list(page: ListPage, filter: EnrollmentTokenFilter): Promise<readonly EnrollmentTokenRow[]>
  revoke(
    tokenId: string,
    by: Omit<AuditEntry, 'what' | 'subject' | 'detail'>,
  ): Promise<RevokeOutcome>
}

export type RevokeOutcome = 'revoked' | 'already_revoked' | 'unknown' | 'exhausted' | 'expired'

const HOUR_S = 3_600

/** Serializes an admin's batches, so that two concurrent ones cannot both pass the limit. */
const LOCK_ADMIN = /* sql */ `select pg_advisory_xact_lock(hashtextextended('enroll-tokens:' || $1, 0))`

/** The token that must become an hour old before a batch fits, if any. $2: tokens of the last hour that may remain. */
const BLOCKING_TOKEN = /* sql */ `
  select ceil(extract(epoch from issued_at + interval '1 hour' - now()))::int as "retryAfterS"
  from enrollment_tokens where issued_by = $1 and issued_at > now() - interval '1 hour'
  order by issued_at desc offset $2 limit 1`

/** $2: the limit; a setting may have lowered it below the number of tokens. */
const COUNT_OF_HOUR = /* sql */ `
  select count(*)::int as "used" from (
    select from enrollment_tokens
    where issued_by = $1 and issued_at > now() - interval '1 hour' limit $2) of_hour`

const INSERT_ALL = /* sql */ `
  insert into enrollment_tokens
    (token_id, token_hash, alias, uses_allowed, expires_at, issued_by, note, request_id, labels)
  select u.token_id, u.token_hash, u.alias, $4, now() + make_interval(secs => $5), $6, $7, $8, $9
  from unnest($1::uuid[], $2::bytea[], $3::text[]) as u(token_id, token_hash, alias)
  returning ${timeText('expires_at')} as "expiresAt"`

const VERDICT = `token_id as "tokenId", alias as "alias", uses_allowed as "usesAllowed", ${STATUS} as "kind"`

const JUDGE = /* sql */ `select ${VERDICT} from enrollment_tokens where token_hash = $1`

/** `limit 1` keeps each lookup on the index; without it PostgreSQL 15 reads a small table whole. */
const JUDGE_ALL = /* sql */ `
  select found.* from unnest($1::bytea[]) as asked(hash)
  cross join lateral (
    select token_hash as "tokenHash", ${VERDICT}
    from enrollment_tokens where token_hash = asked.hash limit 1) found`

/** Like JUDGE, and locks the token against consumption and revocation. */
const JUDGE_LOCKED = `${JUDGE} for update`

const CONSUME = /* sql */ `
  update enrollment_tokens set uses_consumed = uses_consumed + 1
  where token_id = $1 and revoked_at is null and expires_at > now() and uses_consumed < uses_allowed`

const REVOKE = /* sql */ `
  update enrollment_tokens set revoked_at = now()
  where token_id = $1 and revoked_at is null and expires_at > now() and uses_consumed < uses_allowed`

const STATUS_OF = /* sql */ `select ${STATUS} as "status" from enrollment_tokens where token_id = $1`

export function enrollmentTokenStore(database: Database): EnrollmentTokenStore {
  return {
    issue(tokens, options) {
      return database.transaction(async (tx) => {
        const { admin, batch: key } = options
        await tx.query({ name: 'enrollment_tokens.lock_admin', text: LOCK_ADMIN, values: [admin] })
        const earlier = key && (await earlierOutcome(tx, key, options))
        if (earlier !== undefined) return earlier
        const retryAfterS = await secondsUntilRoom(tx, admin, options.maxPerHour - tokens.length)
        if (retryAfterS !== undefined) {
          return { kind: 'rate_limited', used: await countOfHour(tx, options), retryAfterS }
        }
        const expiresAt = await insertAll(tx, tokens, options)
        const tokenIds = tokens.map(({ tokenId }) => tokenId)
        if (key !== undefined) await rememberBatch(tx, admin, key, tokenIds)
        return { kind: 'issued', expiresAt }
      })
    },

    judge: (tokenHash) => judge(database, JUDGE, tokenHash),

    async judgeAll(tokenHashes) {
      const { rows } = await database.query<EnrollmentVerdict & { readonly tokenHash: Buffer }>({
        name: 'enrollment_tokens.judge_all',
        text: JUDGE_ALL,
        values: [tokenHashes],
        provesUnknown: true,
      })
      const known = new Map(rows.map((row) => [row.tokenHash.toString('latin1'), row]))
      return tokenHashes.map((hash) => known.get(hash.toString('latin1')) ?? { kind: 'unknown' })
    },

    async list(page, filter) {
      return (await database.query<EnrollmentTokenRow>(listQuery(page, filter))).rows
    },

    revoke(tokenId, by) {
      return database.transaction(async (tx) => {
        const name = 'enrollment_tokens.revoke'
        const { rowCount } = await tx.query({ name, text: REVOKE, values: [tokenId] })
        const outcome = rowCount === 1 ? 'revoked' : await whyNotRevoked(tx, tokenId)
        const what = 'enrollment_token.revoke'
        await writeAudit(tx, { ...by, what, subject: tokenId, detail: { outcome } })
        return outcome
      })
    },
  }
}

/** Locks the row until the transaction ends. */
export function judgeLocked(tx: Queryable, tokenHash: Buffer): Promise<EnrollmentVerdict> {
  return judge(tx, JUDGE_LOCKED, tokenHash)
}

/** Consumes one use; false if none is left or the token died. */
export async function consume(tx: Queryable, tokenId: string): Promise<boolean> {
  const name = 'enrollment_tokens.consume'
  const { rowCount } = await tx.query({ name, text: CONSUME, values: [tokenId] })
  return rowCount === 1
}

async function judge(
  database: Queryable,
  text: typeof JUDGE | typeof JUDGE_LOCKED,
  tokenHash: Buffer,
): Promise<EnrollmentVerdict> {
  const { rows } = await database.query<EnrollmentVerdict>({
    name: text === JUDGE ? 'enrollment_tokens.judge' : 'enrollment_tokens.judge_locked',
    text,
    values: [tokenHash],
    provesUnknown: true,
  })
  return rows[0] ?? { kind: 'unknown' }
}

/** undefined for a new key. A repeat reveals secrets, so it is audited like their creation. */
async function earlierOutcome(
  tx: Queryable,
  key: BatchKey,
  { admin, requestId, ip }: IssueOptions,
): Promise<IssueOutcome | undefined> {
  const batch = await findBatch(tx, admin, key.idempotencyKey)
  if (batch === undefined) return undefined
  if (!batch.contentHash.equals(key.contentHash)) return { kind: 'conflict' }
  const entries = batch.tokens.map(({ tokenId, alias }) => ({
    ...{ admin, requestId, ip, what: 'enrollment_token.repeat' as const, subject: tokenId },
    detail: { alias },
  }))
  await writeAudit(tx, ...entries)
  return { kind: 'repeated', batch }
}

/** Whole seconds until at most `room` tokens of the last hour remain; undefined: now. A negative `room` never fits. */
async function secondsUntilRoom(
  tx: Queryable,
  admin: string,
  room: number,
): Promise<number | undefined> {
  if (room < 0) return HOUR_S
  const { rows } = await tx.query<{ retryAfterS: number }>({
    name: 'enrollment_tokens.in_the_way',
    text: BLOCKING_TOKEN,
    values: [admin, room],
  })
  const [blocking] = rows
  return blocking && Math.max(1, blocking.retryAfterS)
}

async function countOfHour(tx: Queryable, options: IssueOptions): Promise<number> {
  const { rows } = await tx.query<{ used: number }>({
    name: 'enrollment_tokens.count_of_hour',
    text: COUNT_OF_HOUR,
    values: [options.admin, options.maxPerHour],
  })
  return rows[0]?.used ?? 0
}

async function insertAll(
  tx: Queryable,
  tokens: readonly NewEnrollmentToken[],
  options: IssueOptions,
): Promise<string> {
  const { rows } = await tx.query<{ expiresAt: string }>({
    name: 'enrollment_tokens.insert_all',
    text: INSERT_ALL,
    values: [
      tokens.map((token) => token.tokenId),
      tokens.map((token) => token.tokenHash),
      tokens.map((token) => token.alias),
      options.usesAllowed,
      options.expiresInS,
      options.admin,
      options.note,
      options.requestId,
      JSON.stringify(options.labels),
    ],
  })
  const { admin, requestId, ip, labels } = options
  const audit = tokens.map(({ tokenId, alias }) => {
    const isLabelled = Object.keys(labels).length > 0
    const detail = { alias, uses_allowed: options.usesAllowed, ...(isLabelled && { labels }) }
    const what = 'enrollment_token.create' as const
    return { admin, requestId, ip, what, subject: tokenId, detail }
  })
  await writeAudit(tx, ...audit)
  return rows[0]?.expiresAt ?? ''
}

async function whyNotRevoked(tx: Queryable, tokenId: string): Promise<RevokeOutcome> {
  const { rows } = await tx.query<{ status: EnrollmentTokenStatus }>({
    name: 'enrollment_tokens.status_of',
    text: STATUS_OF,
    values: [tokenId],
  })
  const status = rows[0]?.status
  if (status === undefined) return 'unknown'
  if (status !== 'revoked' && status !== 'active') return status
  await confirmReplicated(tx)
  return 'already_revoked'
}
