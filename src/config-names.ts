/** Variables that are no settings but look like one: set for us and ignored, as nobody would notice. */
import { CONFIG_VARIABLES } from './config-values.ts'
import { editSteps, nearest } from './core/nearest.ts'

export interface UnknownVariable {
  readonly name: string
  readonly meant: string
}

const KNOWN: readonly string[] = CONFIG_VARIABLES.flatMap((name) => [name, `${name}_FILE`])
/** Letters that may differ, of long names one more: other programs have names of their own. */
const STEPS = 2
const LONG = 12
const LIST_LENGTH = 10

/** A name of one word is anybody's (HOSTNAME), so is what Kubernetes sets for each of its services; an empty value is none. */
export function unknownVariables(
  env: Readonly<Record<string, string | undefined>>,
): readonly UnknownVariable[] {
  return Object.keys(env)
    .filter(
      (name) => name.includes('_') && !KNOWN.includes(name) && !/^(tcp:|$)/.test(env[name] ?? ''),
    )
    .flatMap((name) => {
      const meant = meantBy(name)
      return meant === undefined ? [] : [{ name, meant }]
    })
    .slice(0, LIST_LENGTH)
}

/** `HEARTBEAT_INTERVALS`, `FCM_TIMEOUT`, `SHUTDOWN_GRACE_SECONDS`, `FLEETLOOP_DATABASE_URL`, `port_file`. */
function meantBy(name: string): string | undefined {
  const bare = name.toUpperCase().replace(/^FLEETLOOP_(?=.*_)/, '')
  if (KNOWN.includes(bare)) return bare
  const sameStem = CONFIG_VARIABLES.find((known) => {
    const stem = stemOf(known)
    return stem.includes('_') && (stem === bare || stem === stemOf(bare))
  })
  const steps = bare.length < LONG ? STEPS : STEPS + 1
  const similar = KNOWN.filter(({ length }) => Math.abs(length - bare.length) <= steps).filter(
    (known) => editSteps(bare, known) <= steps,
  )
  return nearest(bare, similar) ?? sameStem
}

/** Without its last word, mostly the unit. */
function stemOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('_')))
}
