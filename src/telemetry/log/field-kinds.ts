/** The shape of an event's row: levels, and fields by kind. */
import type { Level } from './levels.ts'

export interface Kinds {
  string: string
  integer: number
  /** A string that few lines have. */
  optional: string
  number: number
  boolean: boolean
  strings: readonly string[]
  /** Strings that few lines have. */
  optionalStrings: readonly string[]
  object: Readonly<Record<string, unknown>>
}

type Kind = keyof Kinds

/** A field of these kinds is left out, not null, if it has no value. */
export const OPTIONAL_KINDS: ReadonlySet<string> = new Set<Kind>(['optional', 'optionalStrings'])

export interface EventShape {
  /** The default comes first; the others are allowed too. */
  readonly levels: readonly [Level, ...Level[]]
  readonly fields: Readonly<Record<string, Kind>>
}
