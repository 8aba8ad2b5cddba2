/** Variables that are no settings but look like one: set for us and ignored, as nobody would notice. */

import { editSteps, nearest } from '../lib/nearest.ts'
import { CONFIG_VARIABLES } from './settings.ts'

export interface UnknownVariable {
  readonly name: string
  /** null: begins with FLEETLOOP_, and resembles no setting. */
  readonly meant: string | null
}

const KNOWN: readonly string[] = CONFIG_VARIABLES.flatMap((name) => [name, `${name}_FILE`])
/** Letters that may differ, of long names one more: other programs have names of their own. */
const STEPS = 2
const LONG = 12
/** Letters by which words are compared: TRUST_PROXY, TRUSTED_PROXIES. */
const WORD_LENGTH = 4
const LIST_LENGTH = 10
/** Set on many machines beside HTTPS_PROXY, for other programs. */
const OF_OTHERS: ReadonlySet<string> = new Set(['HTTP_PROXY', 'http_proxy'])
const PREFIX = /^FLEETLOOP_/
/** Read by the command line, or set by Kubernetes for services that are named fleetloop or begin so. */
const NO_SETTINGS =
  /^FLEETLOOP_(?:URL|TOKEN(?:_FILE)?|(?:\w+_)?SERVICE_(?:HOST|PORT(?:_\w+)?)|(?:\w+_)?PORT_\d+_\w+)$/

/** What Kubernetes sets for each of its services is not ours; an empty value is none. */
export function unknownVariables(
  env: Readonly<Record<string, string | undefined>>,
): readonly UnknownVariable[] {
  const isSet = (known: string) =>
    KNOWN.includes(known) && Boolean(env[known] || env[`${known}_FILE`])
  return Object.keys(env)
    .filter((name) => !isSet(name.toUpperCase())) // https_proxy beside HTTPS_PROXY
    .filter((name) => !OF_OTHERS.has(name) && !NO_SETTINGS.test(name))
    .filter((name) => !/^(tcp:|$)/.test(env[name] ?? ''))
    .map((name) => ({ name, meant: meantBy(name.toUpperCase(), isSet) ?? null }))
    .filter(({ name, meant }) => meant !== null || PREFIX.test(name))
    .slice(0, LIST_LENGTH)
}

/**
 * `FLEETLOOP_PORT`, `port_file`; `LOGLEVEL`, `HEARTBEAT-INTERVAL-S`; `RATE_LIMIT_TOKENS`; `HEARTBEAT_INTERVALS`. Any other
 * name of one word is anybody's (HOSTNAME).
 */
function meantBy(name: string, isSet: (known: string) => boolean): string | undefined {
  const bare = name.replace(PREFIX, '')
  if (KNOWN.includes(bare)) return bare
  const spelt = KNOWN.find((known) => known.includes('_') && lettersOf(known) === lettersOf(bare))
  if (spelt !== undefined || !bare.includes('_')) return spelt
  const longer = CONFIG_VARIABLES.find((known) => known.startsWith(`${bare}_`))
  if (longer !== undefined) return longer
  const steps = bare.length < LONG ? STEPS : STEPS + 1
  const similar = KNOWN.filter(({ length }) => Math.abs(length - bare.length) <= steps).filter(
    (known) => editSteps(bare, known) <= steps,
  )
  const near = nearest(bare, similar)
  if (near !== undefined) return near
  const isOurs = PREFIX.test(name)
  const known = bySameWords(bare, isOurs)
  // Hosts set DATABASE_PUBLIC_URL beside DATABASE_URL.
  return known !== undefined && !isOurs && isSet(known) ? undefined : known
}

/**
 * The setting with the same first word that shares at least two words and half of the name's. If several do, the one with
 * the fewest other words.
 */
function bySameWords(name: string, isOurs: boolean): string | undefined {
  const words = wordsOf(name)
  let best: string | undefined
  let fewest = Number.POSITIVE_INFINITY
  for (const known of CONFIG_VARIABLES) {
    const its = wordsOf(known)
    const shared = words.filter((word) => its.includes(word)).length
    const others = words.length + its.length - 2 * shared
    const isAlike = isOurs || beginsAs(words[0], its[0])
    if (!isAlike || shared < 2 || 2 * shared < words.length || others >= fewest) continue
    best = known
    fewest = others
  }
  return best
}

/** FCM's key has the name of Firebase or Google. */
function beginsAs(word: string | undefined, known: string | undefined): boolean {
  return word === known || (word === 'FCM' && (known === 'FIRE' || known === 'GOOG'))
}

function wordsOf(name: string): readonly string[] {
  return name.split('_').map((word) => word.slice(0, WORD_LENGTH))
}

/** Without what parts words. */
function lettersOf(name: string): string {
  return name.replace(/[^A-Z0-9]/g, '')
}
