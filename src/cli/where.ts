/** Which phones a verb is about: the API's selection language, with a bare word for an alias. */
import type { Api } from './api/client.ts'
import type { Device } from './api/openapi.ts'
import { pages } from './api/pages.ts'
import { UsageError } from './usage.ts'

export const WHERE_NOTES = [
  "WHERE: D01 · 'STORE-*' · label:site=zrh · 'seen>30m' · 'version_code<42'; all terms must hold.",
  'A leading - negates a term: write it behind another one, in the same quotes, or after --.',
]
/** Text between spaces outside of quotes. */
const TERMS = /(?:[^\s"]|"[^"]*")+/g
const BARE = /^-?[A-Za-z0-9*][\w.*,-]*$/

/** Text for `where`; empty: every phone. `D01` stands for `alias:D01`. */
export function whereOf(words: readonly string[]): string {
  const terms = words.flatMap((word) => word.match(TERMS) ?? [])
  return terms.map((term) => (BARE.test(term) ? term.replace(/^(-?)/, '$1alias:') : term)).join(' ')
}

/** For a verb that changes what it selects: an empty variable in a script is not every phone. Throws UsageError. */
export function whereToChange(words: readonly string[]): string {
  const where = whereOf(words)
  if (where === '') throw new UsageError("WHERE is empty; 'alias:*' is every phone.")
  return where
}

export type Order = 'alias' | 'created' | 'seen'

/** Pages of the phones of a selection. */
export function findDevices(api: Api, where: string, order: Order = 'alias') {
  return pages(api, 'listDevices', 'devices', { where, order })
}

export async function allDevices(api: Api, where: string): Promise<readonly Device[]> {
  const devices: Device[] = []
  for await (const { items } of findDevices(api, where)) devices.push(...items)
  return devices
}
