/** Owner of `used_signatures`: each accepted signature once, on whatever replica, until its time is over. */
import type { Queryable } from './postgres/pool.ts'

export interface UsedSignatures {
  /** False: it was accepted before. */
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
