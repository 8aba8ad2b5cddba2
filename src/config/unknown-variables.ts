/** Variables that are no settings but look like one: set for us and ignored, as nobody would notice. */

import { editSteps, nearest } from '../lib/nearest.ts'
import { CONFIG_VARIABLES } from './settings.ts'

export interface UnknownVariable {
  readonly name: string
  readonly meant: string
}

const KNOWN: readonly string[] = CONFIG_VARIABLES.flatMap((name) => [name, `${name}_FILE`])
/** Letters that may differ, of long names one more: other programs have names of their own. */
const STEPS = 2
const LONG = 12
const LIST_LENGTH = 10
/** Set on many machines beside HTTPS_PROXY, for other programs. */
const OF_OTHERS: ReadonlySet<string> = new Set(['HTTP_PROXY', 'http_proxy'])

/** What Kubernetes sets for each of its services is not ours; an empty value is none. */
export function unknownVariables(
  env: Readonly<Record<string, string | undefined>>,
): readonly UnknownVariable[] {
  return Object.keys(env)
    .filter((name) => !KNOWN.includes(name) && !OF_OTHERS.has(name))
    .filter((name) => !/^(tcp:|$)/.test(env[name] ?? ''))
    .flatMap((name) => {
      const meant = meantBy(name)
      return meant === undefined ? [] : [{ name, meant }]
    })
    .slice(0, LIST_LENGTH)
}

/**
 * `FLEETLOOP_PORT`, `port_file`; `LOGLEVEL`, `HEARTBEAT-INTERVAL-S`; `RATE_LIMIT_TOKENS`, `HMAC_SECRET_PATH`;
 * `HEARTBEAT_INTERVALS`; `FCM_TIMEOUT`, `SHUTDOWN_GRACE_SECONDS`. Any other name of one word is anybody's (HOSTNAME).
 */
function meantBy(name: string): string | undefined {
  const bare = name.toUpperCase().replace(/^FLEETLOOP_/, '')
  if (KNOWN.includes(bare)) return bare
  const spelt = KNOWN.find((known) => known.includes('_') && lettersOf(known) === lettersOf(bare))
  if (spelt !== undefined || !bare.includes('_')) return spelt
  const longer = CONFIG_VARIABLES.find((known) => known.startsWith(`${bare}_`))
  if (longer !== undefined) return longer
  const stem = stemOf(bare)
  const sameStem = CONFIG_VARIABLES.find((known) => stem.includes('_') && stemOf(known) === stem)
  const steps = bare.length < LONG ? STEPS : STEPS + 1
  const similar = KNOWN.filter(({ length }) => Math.abs(length - bare.length) <= steps).filter(
    (known) => editSteps(bare, known) <= steps,
  )
  return (
    nearest(bare, similar) ??
    sameStem ??
    KNOWN.find((known) => stem.includes('_') && known === stem)
  )
}

/** Without what parts words. */
function lettersOf(name: string): string {
  return name.replace(/[^A-Z0-9]/g, '')
}

/** Without its last word, mostly the unit. */
function stemOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('_')))
}
