/** Owner of `used_signatures`: each accepted signature once, on whatever replica, until its time is over. */
import type { Queryable } from './pool.ts'

export interface UsedSignatures {
  /** False: it was accepted before. */
  remember(signature: Buffer): Promise<boolean>
  /** Forgets those that are too old to be accepted again anyway. */
  prune(olderThanS: number): Promise<void>
}

const REMEMBER = /* sql */ `insert into used_signatures (signature) values ($1) on conflict do nothing`

const PRUNE = /* sql */ `
  delete from used_signatures where used_at < now() - make_interval(secs => $1)`

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

    async prune(olderThanS) {
      const name = 'used_signatures.prune'
      await database.query({ name, text: PRUNE, values: [olderThanS] })
    },
  }
}
