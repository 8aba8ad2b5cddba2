/**
 * A selection as one SQL condition on the devices row `d` and its device_status row `s`. Each term is a fixed text of ours;
 * what was written reaches PostgreSQL as parameters only. A value that was never reported is null, and so is every test of
 * it, negated or not: the term does not hold.
 */
import type {
  AgeTerm,
  NumberTerm,
  NumberTest,
  Selection,
  Term,
  TextTerm,
  WordTerm,
} from '../../domain/selection/terms.ts'
import { APP_VERSION } from './lists.ts'
import { HAS_PUSH_ID } from './push-id.ts'

/** What the service knows and no row says. */
export interface SelectionContext {
  /** DEVICE_OFFLINE_S. */
  readonly offlineAfterS: number
  /** Off: the push state of every device is `off`. */
  readonly isPushOn: boolean
}

export interface Condition {
  readonly text: string
  readonly values: readonly unknown[]
}

/** Adds a parameter; returns its place, such as `$4`. */
type AddParameter = (value: unknown) => string

const TEXT_COLUMNS: Readonly<Record<TextTerm, string>> = {
  alias: 'd.alias',
  model: 'd.model',
  manufacturer: 'd.manufacturer',
  android: 'd.android_version',
  app: APP_VERSION,
  agent: 's.agent_version',
  network: 's.network_type',
}

/** All bigint, as the values: PostgreSQL hashes a list of the column's own type only. */
const NUMBER_COLUMNS: Readonly<Record<NumberTerm, string>> = {
  sdk: 'd.sdk_int::bigint',
  version_code: 's.version_code',
  battery: 's.battery_pct::bigint',
  uptime: 's.uptime_s',
}

/** A device that was never heard of was last heard of infinitely long ago. */
export const TIMES: Readonly<Record<AgeTerm, string>> = {
  seen: `coalesce(s.last_seen_at, '-infinity')`,
  enrolled: 'd.enrolled_at',
}

const IS_LIVE = 'd.deleted_at is null'

/** `first`: the number of its first parameter, from 1. */
export function conditionOf(
  selection: Selection,
  context: SelectionContext,
  first: number,
): Condition {
  const values: unknown[] = []
  const add: AddParameter = (value) => `$${first - 1 + values.push(value)}`
  const terms = selection.map((term) => {
    const test = testOf(term, context, add)
    return term.isNegated ? `not (${test})` : `(${test})`
  })
  // Once each: sixteen times `open:true` joined commands sixteen times, 300 ms for 100,000 devices.
  return { text: [...new Set([IS_LIVE, ...terms])].join(' and '), values }
}

function testOf({ test }: Term, { offlineAfterS, isPushOn }: SelectionContext, add: AddParameter) {
  switch (test.kind) {
    case 'text':
      return matches(TEXT_COLUMNS[test.name], test.patterns, add)
    case 'device':
      return `d.device_id = any (${add(test.ids)}::uuid[])`
    case 'has_label':
      return `d.labels ?| ${add(test.keys)}::text[]`
    case 'label':
      return matches(`d.labels ->> ${add(test.key)}::text`, test.patterns, add)
    case 'word':
      return `${wordOf(test.name, isPushOn, add)} = any (${add(test.words)}::text[])`
    case 'number':
      return compares(NUMBER_COLUMNS[test.name], test, add)
    case 'has_package':
      return `coalesce(s.app_versions ?| ${add(test.packages)}::text[], false)`
    case 'package':
      return compares(`(s.app_versions -> ${add(test.package)}::text)::bigint`, test, add)
    case 'age': {
      const newer = test.comparison === '<' ? '>' : '<'
      return `${TIMES[test.name]} ${newer} now() - make_interval(secs => ${add(test.seconds)})`
    }
    case 'flag': {
      const holds =
        test.name === 'open'
          ? `exists (select from commands c where c.device_id = d.device_id and c.state = 'open')`
          : `${TIMES.seen} >= now() - make_interval(secs => ${add(offlineAfterS)})`
      return test.isTrue ? holds : `not ${holds}`
    }
  }
}

function compares(number: string, { comparison, values }: NumberTest, add: AddParameter): string {
  return comparison === '='
    ? `${number} = any (${add(values)}::bigint[])`
    : `${number} ${comparison} ${add(values[0])}::bigint`
}

function wordOf(name: WordTerm, isPushOn: boolean, add: AddParameter): string {
  return name === 'status' ? 's.status' : pushState(add(isPushOn))
}

export function pushState(isPushOn: string): string {
  const cases = pushStates(isPushOn).map(([state, holds]) => `when ${holds} then '${state}'`)
  return `case ${cases.join(' ')} end`
}

/** Each push state with its condition; the first that holds counts. `isPushOn`: the place of a parameter. */
export function pushStates(isPushOn: string) {
  return [
    ['off', `not ${isPushOn}::bool`],
    ['none', `not ${HAS_PUSH_ID}`],
    ['dead', 'd.fcm_token_died_at is not null'],
    ['live', 'true'],
  ] as const
}

/** Values without a wildcard by equality, which an index or one hash table serves. */
function matches(text: string, patterns: readonly string[], add: AddParameter): string {
  const wild = patterns.filter((pattern) => pattern.includes('*')).map(likePattern)
  const exact = patterns.filter((pattern) => !pattern.includes('*'))
  const equals = exact.length > 0 ? [`${text} = any (${add(exact)}::text[])`] : []
  const isLike = wild.length > 0 ? [`${text} like any (${add(wild)}::text[])`] : []
  return [...equals, ...isLike].join(' or ')
}

/** LIKE's own wildcards are plain characters here; backslash is its default escape. */
function likePattern(pattern: string): string {
  return pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%')
}
