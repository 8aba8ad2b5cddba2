/** Enrollment tokens: issued, judged, revoked. */
import { randomUUID } from 'node:crypto'
import { enrollmentTokenStore } from '../../../src/db/enrollment/tokens.ts'
import type { Database } from '../../../src/db/postgres/pool.ts'
import { BATCH_OF_TOKENS, BUSY_ADMIN, enrollmentHash, ISSUED, tokenHash } from '../installation.ts'
import { BY } from './push.ts'
import { BOTH, type Statement } from './statement.ts'

/** A batch may read every token issued within the hour, by any admin. */
export function enrollmentTokenStatements(): readonly Statement[] {
  const store = (database: Database) => enrollmentTokenStore(database)
  const token = { tokenId: randomUUID(), tokenHash: tokenHash(0), alias: null }
  const about = { expiresInS: 60, usesAllowed: 1, note: null, labels: {}, maxPerHour: 200 }
  const options = { ...BY, ...about, batch: undefined }
  const many = Array.from({ length: 64 }, (_, n) => enrollmentHash(`busy-${n + 1}`))
  const batch = { idempotencyKey: 'key-7', contentHash: tokenHash(0), seed: tokenHash(0) }
  return [
    {
      title: 'batch of enrollment tokens',
      modes: BOTH,
      run: (database) => store(database).issue([token], options),
      mostRows: 100 + ISSUED,
    },
    {
      title: 'batch of enrollment tokens beyond the limit',
      modes: BOTH,
      run: (database) => store(database).issue([token], { ...options, admin: BUSY_ADMIN }),
      index: 'enrollment_tokens_by_admin',
      mostRows: 2 * options.maxPerHour,
    },
    {
      title: 'batch of enrollment tokens, its Idempotency-Key used',
      modes: BOTH,
      run: (database) => store(database).issue([token], { ...options, batch }),
      index: 'enrollment_tokens_pkey',
      mostRows: BATCH_OF_TOKENS,
    },
    {
      title: 'batch of enrollment tokens, its Idempotency-Key new',
      modes: BOTH,
      run: (database) =>
        store(database).issue([token], { ...options, batch: { ...batch, idempotencyKey: 'new' } }),
      index: 'enrollment_batches_pkey',
      mostRows: 100 + ISSUED,
    },
    {
      title: 'enrollment token judged',
      modes: BOTH,
      run: (database) => store(database).judge(tokenHash(0)),
      index: 'enrollment_tokens_token_hash_key',
      mostRows: 1,
    },
    {
      title: 'many enrollment tokens judged',
      modes: BOTH,
      run: (database) => store(database).judgeAll(many),
      index: 'enrollment_tokens_token_hash_key',
      mostRows: many.length,
    },
    {
      title: 'enrollment token revoked, and again',
      modes: BOTH,
      async run(database) {
        const verdict = await store(database).judge(enrollmentHash('busy-1'))
        if (verdict.kind === 'unknown') throw new Error('busy-1 is not there')
        await store(database).revoke(verdict.tokenId, BY)
        await store(database).revoke(verdict.tokenId, BY)
      },
      index: 'enrollment_tokens_pkey',
      mostRows: 8,
    },
  ]
}
