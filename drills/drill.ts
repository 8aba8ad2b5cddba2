/** What every drill is: a name, a promise, options with their defaults, and a run that ends in figures and a verdict. */

export interface Figure {
  readonly promise: string
  readonly measured: string
  readonly isHeld: boolean
  /** A bound in time or memory: true of a machine that does nothing else. The tests, which share theirs, only print it. */
  readonly isTimed?: boolean
}

/** A drill, an option or a value that does not exist; the message says which. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export interface DrillOption {
  /** Its type is the option's; a boolean is false and takes no value. */
  readonly standard: number | string | false
  readonly what: string
}

type Options = Readonly<Record<string, DrillOption>>
export type Value = number | string | boolean
type Values<O extends Options> = {
  readonly [Name in keyof O]: O[Name]['standard'] extends number
    ? number
    : O[Name]['standard'] extends string
      ? string
      : boolean
}

export interface DrillEnvironment {
  /** Its own directory, empty, removed afterwards. */
  readonly dir: string
  readonly print: (line: string) => void
}

export interface Drill {
  /** What follows `npm run drill --`: of a promise its number, else what it is about. */
  readonly name: string
  readonly promise: string
  readonly options: Options
  run(values: Readonly<Record<string, Value>>, place: DrillEnvironment): Promise<readonly Figure[]>
}

export function defineDrill<const O extends Options>(
  drill: Omit<Drill, 'options' | 'run'> & {
    readonly options: O
    readonly run: (values: Values<O>, place: DrillEnvironment) => Promise<readonly Figure[]>
  },
): Drill {
  return { ...drill, run: (values, place) => drill.run(values as Values<O>, place) } // read by main.ts as `options` says
}

export function printFigures(figures: readonly Figure[], print: (line: string) => void): boolean {
  for (const { promise, measured, isHeld } of figures) {
    print(`${isHeld ? 'held  ' : 'MISSED'}  ${promise}\n        ${measured}`)
  }
  return figures.every(({ isHeld }) => isHeld)
}
