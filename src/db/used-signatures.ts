/** Owner of `used_signatures`: accepts each signature once across all replicas, until it is too old anyway. */
import type { Queryable } from './postgres/pool.ts'

export interface UsedSignatures {
  /** False: already accepted. */
  remember(signature: Buffer): Promise<boolean>
}

const REMEMBER = /* sql */ `insert into used_signatures (signature) values ($1) on conflict do nothing`

export function usedSignatures(database: Queryable): UsedSignatures {
  return {
    async remember(signature) {
      const { rowCount } = await database.query({
        name: 'used_signatures.remember',
        text: REMEMBER,
        values: [signature],
      })
      return rowCount === 1
    },
  }
}
