/** The terms of a selection: their names, and what a parsed one is. */

/** One term of each name, as messages show it. */
export const TERM_EXAMPLES = {
  alias: 'alias:STORE-*',
  device: 'device:01a20000-0000-7000-8000-000000000001',
  label: 'label:site=zrh',
  model: 'model:R4S*',
  manufacturer: 'manufacturer:Google',
  android: 'android:13',
  app: 'app:1.0.25*',
  agent: 'agent:2.1.*',
  network: 'network:wifi',
  status: 'status:warn',
  sdk: 'sdk>=33',
  version_code: 'version_code<42',
  battery: 'battery<20',
  uptime: 'uptime>7d',
  package: 'package:com.example.app<42',
  seen: 'seen<1h',
  enrolled: 'enrolled<7d',
  online: 'online:true',
  push: 'push:live',
  open: 'open:true',
} as const

export type TermName = keyof typeof TERM_EXAMPLES

export const TERM_NAMES = Object.keys(TERM_EXAMPLES) as readonly TermName[]

export const PUSH_STATES = ['live', 'none', 'dead', 'off'] as const

export type TextTerm = 'alias' | 'model' | 'manufacturer' | 'android' | 'app' | 'agent' | 'network'
export type NumberTerm = 'sdk' | 'version_code' | 'battery' | 'uptime'
export type WordTerm = 'status' | 'push'
export type AgeTerm = 'seen' | 'enrolled'
export type FlagTerm = 'online' | 'open'

/** Without `!=`, which is `=` negated. */
export type Comparison = '=' | '<' | '<=' | '>' | '>='

/** Any of the values with `=`, else one. `uptime` is in seconds. */
export interface NumberTest {
  readonly comparison: Comparison
  readonly values: readonly number[]
}

/** Any of its values is enough. In a pattern `*` stands for any run of characters. */
export type Test =
  | { readonly kind: 'text'; readonly name: TextTerm; readonly patterns: readonly string[] }
  /** Lower case. */
  | { readonly kind: 'device'; readonly ids: readonly string[] }
  | { readonly kind: 'has_label'; readonly keys: readonly string[] }
  | { readonly kind: 'label'; readonly key: string; readonly patterns: readonly string[] }
  | { readonly kind: 'word'; readonly name: WordTerm; readonly words: readonly string[] }
  | ({ readonly kind: 'number'; readonly name: NumberTerm } & NumberTest)
  | { readonly kind: 'has_package'; readonly packages: readonly string[] }
  | ({ readonly kind: 'package'; readonly package: string } & NumberTest)
  | {
      readonly kind: 'age'
      readonly name: AgeTerm
      readonly comparison: '<' | '>'
      readonly seconds: number
    }
  | { readonly kind: 'flag'; readonly name: FlagTerm; readonly isTrue: boolean }

/** A test, and whether the term holds where the test does not: that of `!=`. */
export interface ReadTest {
  readonly test: Test
  readonly isOpposite?: boolean
}

export interface Term {
  /** As it was written. */
  readonly text: string
  /** Its first character, from 1. */
  readonly at: number
  readonly isNegated: boolean
  readonly test: Test
}

/** The live devices for which every term holds. */
export type Selection = readonly Term[]
