/** POST, GET and DELETE /v1/enroll-tokens: admins issue, list and revoke enrollment tokens. */
import { createHash } from 'node:crypto'
import type { Batch } from '../../db/enrollment/batches.ts'
import type { EnrollmentTokenRow } from '../../db/enrollment/token-lists.ts'
import type { NewEnrollmentToken } from '../../db/enrollment/tokens.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import { ALIAS, isAlias, isUuid } from '../../domain/ids.ts'
import type { Labels } from '../../domain/labels.ts'
import {
  asObject,
  type Fields,
  field,
  idempotencyKey,
  intField,
  optionalText,
  queryEnum,
  queryString,
} from '../../http/fields.ts'
import { listReply, readPage } from '../../http/page.ts'
import { type Endpoint, json, type Request } from '../../http/route.ts'
import type { ReachedLimit } from '../../security/denial.ts'
import { readLabels } from '../devices/label-fields.ts'
import type { Enrollment } from './feature.ts'

const MAX_BATCH = 100
const STATUSES = ['active', 'exhausted', 'expired', 'revoked'] as const

export function createTokensEndpoint(deps: Enrollment): Endpoint<'admin'> {
  return {
    async handle(request) {
      const asked = readBatch(asObject(request.body))
      const { aliases, usesAllowed } = asked
      const idempotency = idempotencyKey(request.headers)
      const seed = deps.batchTokens.newSeed()
      const made = aliases.map((alias, index) => {
        const { token, hash } = deps.batchTokens.issue(seed, index)
        const row: NewEnrollmentToken = { tokenId: deps.newId(), tokenHash: hash, alias }
        return { token, row }
      })
      const batch =
        idempotency === undefined
          ? undefined
          : { idempotencyKey: idempotency, contentHash: contentHash(asked), seed }
      const { admin, context } = request
      const outcome = await deps.tokens.issue(
        made.map(({ row }) => row),
        {
          ...asked,
          admin,
          requestId: context.requestId,
          ip: context.ip,
          maxPerHour: deps.maxPerHour,
          batch,
        },
      )
      switch (outcome.kind) {
        case 'rate_limited':
          throw deps.rateLimited(reachedBy(aliases.length, deps.maxPerHour, outcome))
        case 'conflict':
          throw conflict('Another batch has this Idempotency-Key. Send a new one for new tokens.')
        case 'repeated': {
          const tokens = remade(deps, outcome.batch)
          logEach(request, tokens, 'repeat')
          return json(200, { tokens, duplicate: true })
        }
        case 'issued': {
          const tokens = made.map(({ token, row }) => ({
            token_id: row.tokenId,
            alias: row.alias,
            token,
            expires_at: outcome.expiresAt,
            uses_allowed: usesAllowed,
          }))
          logEach(request, tokens, null)
          return json(201, { tokens, duplicate: false })
        }
      }
    },
  }
}

function logEach(
  request: Request<'admin'>,
  tokens: readonly { readonly token_id: string }[],
  reason: 'repeat' | null,
): void {
  for (const { token_id } of tokens) {
    const fields = { reason, token_id: token_id.slice(-4), admin: request.admin }
    request.log({ event: 'sec.token.create', fields })
  }
}

/** The tokens of a batch that was issued before, derived again: only their hashes are stored. */
function remade({ batchTokens }: Enrollment, { seed, tokens }: Batch) {
  return tokens.map(({ tokenId, tokenHash, alias, expiresAt, usesAllowed }, index) => {
    const token = batchTokens.remake(seed, index, tokenHash)
    if (token === undefined) {
      throw conflict(
        'This batch was made with an HMAC_SECRET that is gone, and cannot be shown again. Revoke it, and send a new Idempotency-Key.',
      )
    }
    return { token_id: tokenId, alias, token, expires_at: expiresAt, uses_allowed: usesAllowed }
  })
}

function conflict(message: string): AppError {
  return new AppError('request_id_conflict', message)
}

/** Hashes the request with defaults filled in: leaving a field out and sending its default are the same request. */
function contentHash({ aliases, expiresInS, usesAllowed, note, labels }: AskedBatch): Buffer {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
  const content = [aliases, expiresInS, usesAllowed, note, ...(sorted.length > 0 ? [sorted] : [])]
  return createHash('sha256').update(JSON.stringify(content)).digest()
}

export function listTokensEndpoint({ tokens }: Enrollment): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const page = readPage(query, 'tokens', isUuid)
      const status = queryEnum(query, 'status', STATUSES) ?? null
      const alias = queryString(query, 'alias', 64, ALIAS) ?? null
      const read = await tokens.list(page, { status, alias })
      return listReply(read, page, (row) => ({ at: row.issuedAt, id: row.tokenId }), tokenJson)
    },
  }
}

function tokenJson(row: EnrollmentTokenRow) {
  return {
    token_id: row.tokenId,
    alias: row.alias,
    status: row.status,
    uses_allowed: row.usesAllowed,
    uses_consumed: row.usesConsumed,
    issued_at: row.issuedAt,
    expires_at: row.expiresAt,
    revoked_at: row.revokedAt,
    issued_by: row.issuedBy,
    note: row.note,
    labels: row.labels,
  }
}

export function revokeTokenEndpoint({ tokens }: Enrollment): Endpoint<'admin'> {
  return {
    async handle(request) {
      const { context, admin } = request
      const tokenId = (request.params['token_id'] ?? '').toLowerCase()
      const outcome = isUuid(tokenId)
        ? await tokens.revoke(tokenId, {
            admin,
            requestId: context.requestId,
            ip: context.ip,
          })
        : 'unknown'
      switch (outcome) {
        case 'unknown':
          throw new AppError('token_not_found', 'No enrollment token has this id.')
        case 'exhausted':
        case 'expired':
          throw new AppError('token_not_active', `This enrollment token is ${outcome} already.`)
        case 'revoked':
        case 'already_revoked':
          request.log({
            event: 'sec.token.revoke',
            fields: { reason: null, token_id: tokenId.slice(-4), admin },
          })
          return { kind: 'empty', status: 204 }
      }
    },
  }
}

function reachedBy(
  wanted: number,
  limit: number,
  { used, retryAfterS }: { readonly used: number; readonly retryAfterS: number },
): ReachedLimit {
  return {
    name: 'tokens_per_hour',
    limit,
    used,
    counts: 'enrollment tokens of this admin within an hour',
    retryAfterS,
    advice:
      wanted > limit
        ? `${wanted} at once never fit: ask for at most ${limit}.`
        : `${wanted} more fit in ${retryAfterS} s.`,
  }
}

interface AskedBatch {
  /** null: unbound. */
  readonly aliases: readonly (string | null)[]
  readonly expiresInS: number
  readonly usesAllowed: number
  readonly note: string | null
  readonly labels: Labels
}

function readBatch(body: Fields): AskedBatch {
  return {
    aliases: readAliases(body),
    expiresInS: intField(body, 'expires_in_sec', { min: 60, max: 2_592_000 }, 2_700),
    usesAllowed: intField(body, 'uses_allowed', { min: 1, max: 1_000 }, 1),
    note: optionalText(body, 'note', 500) ?? null,
    labels: readLabels(body),
  }
}

function readAliases(body: Fields): readonly (string | null)[] {
  const list = field(body, 'aliases')
  if (!Array.isArray(list) || list.length < 1 || list.length > MAX_BATCH) {
    throw invalidField('aliases', `must be a list of 1 to ${MAX_BATCH} aliases; null for unbound`)
  }
  const aliases = list.map((alias: unknown) => {
    if (alias === null || (typeof alias === 'string' && isAlias(alias))) return alias
    throw invalidField('aliases', `each must match ${ALIAS.source} or be null`)
  })
  const bound = aliases.filter((alias) => alias !== null)
  if (new Set(bound).size < bound.length) throw invalidField('aliases', 'names an alias twice')
  return aliases
}
