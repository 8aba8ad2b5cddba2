/** The help, from the table of verbs. */
import { OPERATIONS } from './api/openapi.ts'
import { COMMON_OPTIONS, type Option, type Verb } from './verb.ts'

export function overview(verbs: readonly Verb[]): readonly string[] {
  const calls = verbs.map(({ name, words }) => `${name} ${words}`.trimEnd())
  const longest = Math.min(MAX_CALL, Math.max(...calls.map((call) => call.length)))
  return [
    'usage: fleetloop VERB [ARGUMENT …] [--option …]',
    '',
    ...verbs.map(({ name, summary }) => `  ${name.padEnd(longest)}  ${summary}`),
    '',
    'fleetloop VERB --help has options and examples.',
    '',
    'environment',
    '  FLEETLOOP_URL          a replica or the balancer: https://, or http:// on loopback',
    '  FLEETLOOP_TOKEN[_FILE] an admin token. Beside an embedded installation, both are found',
    '  ADMIN_HMAC_SECRET[_FILE] if the service has one: changes are signed',
    '  NO_COLOR               no colours',
    '',
    'exit codes: 0 done; 1 the answer is no, or the service refused; 2 usage;',
    '3 the service or the network is unavailable; 130 Ctrl-C',
  ]
}

const MAX_CALL = 11

export function helpOf(verb: Verb): readonly string[] {
  const { name, words, summary, options, examples, notes = [] } = verb
  const scopes = scopesOf(verb)
  return [
    `usage: fleetloop ${name} ${words}`.trimEnd(),
    '',
    `  ${summary}`,
    ...notes.map((note) => `  ${note}`),
    ...(scopes === '' ? [] : [`  The token needs the scope ${scopes}.`]),
    '',
    ...optionLines({ ...options, ...COMMON_OPTIONS }),
    '',
    'examples',
    ...examples.map((example) => `  fleetloop ${example}`),
  ]
}

function optionLines(options: Readonly<Record<string, Option>>): readonly string[] {
  const calls = Object.entries(options).map(([name, { value, help }]) => ({
    call: value === undefined ? `--${name}` : `--${name} ${value}`,
    help,
  }))
  const longest = Math.max(...calls.map(({ call }) => call.length))
  return ['options', ...calls.map(({ call, help }) => `  ${call.padEnd(longest)}  ${help}`)]
}

/** `read`, or `read and command` where no scope but admin opens all that the verb calls. */
export function scopesOf({ calls }: Verb): string {
  const needs = calls
    .map((call): readonly string[] => OPERATIONS[call].scopes)
    .filter((scopes) => scopes.length > 0)
    .map((scopes) => scopes.filter((scope) => scope !== 'admin'))
  if (needs.length === 0) return ''
  if (needs.some((scopes) => scopes.length === 0)) return 'admin'
  const [first = [], ...others] = needs
  const shared = first.filter((scope) => others.every((other) => other.some((s) => s === scope)))
  if (shared.length > 0) return shared.join(' or ')
  const each = needs.map((scopes) => (scopes.some((s) => s === 'read') ? 'read' : scopes[0]))
  return `${[...new Set(each)].join(' and ')}, or admin`
}
