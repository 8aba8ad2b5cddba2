/** Owner of `enrollment_batches`: the batches that an Idempotency-Key of POST /v1/enroll-tokens can repeat. */
import { timeText } from '../list-page.ts'
import type { Queryable } from '../postgres/pool.ts'

/** Then the seed is deleted: nobody can derive these tokens again, and the key creates new ones. */
export const REPEATABLE_S = 24 * 60 * 60

/** Identity and seed of a batch. */
export interface BatchKey {
  /** Scoped to one admin. */
  readonly idempotencyKey: string
  /** SHA-256 of the request's content. */
  readonly contentHash: Buffer
  /** 32 random bytes; the tokens derive from it. */
  readonly seed: Buffer
}

export interface BatchToken {
  readonly tokenId: string
  readonly tokenHash: Buffer
  readonly alias: string | null
  readonly expiresAt: string
  readonly usesAllowed: number
}

export interface Batch extends Pick<BatchKey, 'contentHash' | 'seed'> {
  /** In order of creation. */
  readonly tokens: readonly BatchToken[]
}

/** `limit 1`: as a join it reads all tokens of a small table. */
const FIND = /* sql */ `
  select b.content_hash as "contentHash", b.seed as "seed", t.token_id as "tokenId", t.token_hash as "tokenHash",
    t.alias as "alias", ${timeText('t.expires_at')} as "expiresAt", t.uses_allowed as "usesAllowed"
  from enrollment_batches b
  cross join unnest(b.token_ids) with ordinality as made(token_id, place)
  cross join lateral (select * from enrollment_tokens t where t.token_id = made.token_id limit 1) t
  where b.admin = $1 and b.idempotency_key = $2 and b.created_at > now() - make_interval(secs => $3)
  order by made.place`

/** Replaces an expired batch. */
const REMEMBER = /* sql */ `
  insert into enrollment_batches (admin, idempotency_key, content_hash, seed, token_ids)
  values ($1, $2, $3, $4, $5)
  on conflict (admin, idempotency_key) do update
  set content_hash = excluded.content_hash, seed = excluded.seed, token_ids = excluded.token_ids,
    created_at = now()`

export async function findBatch(
  tx: Queryable,
  admin: string,
  idempotencyKey: string,
): Promise<Batch | undefined> {
  const { rows } = await tx.query<Omit<Batch, 'tokens'> & BatchToken>({
    name: 'enrollment_batches.find',
    text: FIND,
    values: [admin, idempotencyKey, REPEATABLE_S],
  })
  const [first] = rows
  return first && { contentHash: first.contentHash, seed: first.seed, tokens: rows }
}

export async function rememberBatch(
  tx: Queryable,
  admin: string,
  { idempotencyKey, contentHash, seed }: BatchKey,
  tokenIds: readonly string[],
): Promise<void> {
  await tx.query({
    name: 'enrollment_batches.remember',
    text: REMEMBER,
    values: [admin, idempotencyKey, contentHash, seed, tokenIds],
  })
}
