/** The same random selections in SQL and in plain TypeScript over the same random phones. */
import type pg from 'pg'
import { JOINED } from '../../src/db/devices/lists.ts'
import { conditionOf } from '../../src/db/devices/selection.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import { Dice } from '../../testkit/dice.ts'
import { type Phone, randomPhones, storePhones } from './phones.ts'
import { OFFLINE_AFTER_S, randomSelection } from './random-terms.ts'

export interface Compared {
  readonly selections: number
  /** Selected some phones, and not all of them. */
  readonly selective: number
  /** The first few that differ. */
  readonly differences: readonly string[]
}

const MAX_SHOWN = 5

/** In a transaction of `db`, which is rolled back. */
export async function compareSelections(
  db: pg.ClientBase,
  options: { readonly phones: number; readonly selections: number; readonly seed: number },
): Promise<Compared> {
  const dice = new Dice(options.seed)
  const phones = randomPhones(dice, options.phones)
  const differences: string[] = []
  let selective = 0
  await db.query('begin')
  try {
    await storePhones(db, phones)
    for (let n = 0; n < options.selections && differences.length < MAX_SHOWN; n += 1) {
      const { text, holds } = randomSelection(dice, phones)
      const expected = phones.filter(holds)
      const found = await selected(db, text)
      if (found !== namesOf(expected)) {
        differences.push(`${text}: ${found || 'none'} instead of ${namesOf(expected) || 'none'}`)
      }
      if (expected.length > 0 && expected.length < phones.length) selective += 1
    }
  } finally {
    await db.query('rollback')
  }
  return { selections: options.selections, selective, differences }
}

/** The ends of the ids, in their order. */
async function selected(db: pg.ClientBase, where: string): Promise<string> {
  const context = { offlineAfterS: OFFLINE_AFTER_S, isPushOn: true }
  const { text, values } = conditionOf(parseSelection(where), context, 1)
  const { rows } = await db.query<{ names: string }>(
    `select coalesce(string_agg(right(d.device_id::text, 6), ' ' order by d.device_id), '') as "names"
     from ${JOINED} where ${text}`,
    [...values],
  )
  return rows[0]?.names ?? ''
}

function namesOf(phones: readonly Phone[]): string {
  return phones.map(({ deviceId }) => deviceId.slice(-6)).join(' ')
}
