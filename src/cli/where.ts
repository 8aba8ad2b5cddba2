/** Which phones a verb is about: `D01`, `STORE-*`, `alias:STORE-*,D01`, `device:ID`, `seen>30m`; all must hold. */
import type { Api } from './api/client.ts'
import type { Device } from './api/openapi.ts'
import { pages } from './api/pages.ts'
import { visible } from './terminal/text.ts'
import { UsageError } from './usage.ts'
import { secondsOf } from './verbs/list.ts'

type Named = Pick<Device, 'alias' | 'device_id'>

export interface Where {
  /** Silent for at least so many seconds, or never heard of. */
  readonly silentS: number | undefined
  /** The only alias that can match, if it has no wildcard. */
  readonly alias: string | undefined
  readonly matches: (device: Named) => boolean
}

export const WHERE_NOTES = [
  'where: D01 · STORE-* · alias:STORE-*,D01 · device:ID · seen>30m; several must all hold.',
]
const TERM = /^(?:(alias|device):|(seen)>)(.+)$/

/** Empty text: every phone. Throws UsageError. */
export function parseWhere(words: readonly string[]): Where {
  const tests: ((device: Named) => boolean)[] = []
  let silentS: number | undefined
  let alias: string | undefined
  for (const term of words.flatMap((word) => word.split(/\s+/)).filter((word) => word !== '')) {
    const [, key = /^[A-Za-z0-9*?][\w.*,-]*$/.test(term) ? 'alias' : '', seen, value = term] =
      TERM.exec(term) ?? []
    if (seen !== undefined) {
      silentS = Math.max(silentS ?? 0, secondsOf(value, 'seen>', 0))
    } else if (key === 'device') {
      const ids = value.toLowerCase().split(',')
      tests.push(({ device_id }) => ids.includes(device_id))
    } else if (key === 'alias') {
      const patterns = value.split(',').map(patternOf)
      if (!/[*,]/.test(value)) alias = value
      tests.push((device) => patterns.some((pattern) => pattern.test(device.alias)))
    } else {
      throw new UsageError(`${visible(term)} selects no phones.\n${WHERE_NOTES.join('\n')}`)
    }
  }
  return { silentS, alias, matches: (device) => tests.every((test) => test(device)) }
}

/** `*` is any run of characters. */
function patternOf(text: string): RegExp {
  const parts = text.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`)
}

/** Pages of the phones of a selection, newest first. */
export async function* findDevices(api: Api, { silentS, alias, matches }: Where) {
  const query = {
    ...(silentS !== undefined && { offline_for_s: silentS }),
    ...(alias !== undefined && { alias }),
  }
  for await (const { items } of pages(api, 'listDevices', 'devices', query)) {
    const found = items.filter((device) => device.deleted_at === null && matches(device))
    yield { items: found, hasMore: false }
  }
}

/** All of them, by alias. */
export async function allDevices(api: Api, where: Where): Promise<readonly Device[]> {
  const devices: Device[] = []
  for await (const { items } of findDevices(api, where)) devices.push(...items)
  return devices.toSorted((a, b) => (a.alias < b.alias ? -1 : 1))
}
