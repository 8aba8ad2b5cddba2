/** A drill has a name, a promise, options with defaults, and a run that returns figures. */
import { join } from 'node:path'
import { type Postgres, withPostgres } from '../testkit/database/postgres.ts'

export interface Figure {
  readonly promise: string
  readonly measured: string
  readonly isHeld: boolean
  /** A bound in time or memory, which only holds on an idle machine. Tests share theirs, and only print it. */
  readonly isTimed?: boolean
}

/** An unknown drill, option or value; the message says which. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export interface DrillOption {
  /** The default, which also gives the type; a boolean is false and takes no value. */
  readonly standard: number | string | false
  readonly what: string
}

type Options = Readonly<Record<string, DrillOption>>
export type Value = number | string | boolean
/** The values of these options in one run. */
export type Values<O extends Options> = {
  readonly [Name in keyof O]: O[Name]['standard'] extends number
    ? number
    : O[Name]['standard'] extends string
      ? string
      : boolean
}

export interface DrillEnvironment {
  /** The drill's own directory; removed afterwards. */
  readonly dir: string
  /** Within `dir`, for the files of a service. */
  readonly dataDir: string
  readonly print: (line: string) => void
}

export interface DatabaseEnvironment extends DrillEnvironment {
  /** Of an empty database, or a migrated one without rows. */
  readonly databaseUrl: string
}

/** With a PostgreSQL of its own, within `dir`. */
export interface PostgresEnvironment extends DatabaseEnvironment {
  readonly postgres: Postgres
}

interface Description {
  /** The argument of `npm run drill --`: a promise's number, otherwise the drill's subject. */
  readonly name: string
  readonly promise: string
}

type Run<V, E> = (values: V, environment: E) => Promise<readonly Figure[]>

export interface Drill extends Description {
  readonly options: Options
  readonly run: Run<Readonly<Record<string, Value>>, DrillEnvironment>
}

export function defineDrill<const O extends Options>(
  drill: Description & { readonly options: O } & (
      | { readonly needs?: never; readonly run: Run<Values<O>, DrillEnvironment> }
      | { readonly needs: 'postgres'; readonly run: Run<Values<O>, PostgresEnvironment> }
    ),
): Drill {
  return {
    ...drill,
    run(given, environment) {
      const values = given as Values<O> // main.ts reads them as `options` says
      if (drill.needs === undefined) return drill.run(values, environment)
      return withPostgres(join(environment.dir, 'postgres'), (postgres) =>
        drill.run(values, { ...environment, postgres, databaseUrl: postgres.url }),
      )
    },
  }
}

export function printFigures(figures: readonly Figure[], print: (line: string) => void): boolean {
  for (const { promise, measured, isHeld } of figures) {
    print(`${isHeld ? 'held  ' : 'MISSED'}  ${promise}\n        ${measured}`)
  }
  return figures.every(({ isHeld }) => isHeld)
}
