/** The parts of a verb of the command line. */
import type { Api } from './api/client.ts'
import type { Connection } from './api/connection.ts'
import type { Operations } from './api/openapi.ts'
import type { Terminal } from './terminal/terminal.ts'

/** Documented in docs/operate/cli.md. */
export const EXIT = { ok: 0, no: 1, usage: 2, unavailable: 3 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

export interface Option {
  /** Stands for the value in the help, such as `30m`; undefined: a flag. */
  readonly value?: string
  readonly help: string
  readonly isRepeatable?: boolean
}

/** Every verb takes these. */
export const COMMON_OPTIONS: Readonly<Record<string, Option>> = {
  json: { help: "print the API's own objects, one a line" },
  url: { value: 'URL', help: 'the service; default: FLEETLOOP_URL, or http://127.0.0.1:8080' },
  'token-file': { value: 'FILE', help: 'a file with an admin token; default: FLEETLOOP_TOKEN' },
  help: { help: 'this text' },
}

/** The command line of one verb, parsed. */
export interface Args {
  readonly words: readonly string[]
  text(option: string): string | undefined
  texts(option: string): readonly string[]
  has(flag: string): boolean
}

export interface Context {
  readonly terminal: Terminal
  readonly args: Args
  readonly isJson: boolean
  /** Throws UsageError where no token is known. */
  readonly api: () => Api
  /** For what goes beside the API's JSON. Throws UsageError, too. */
  readonly connection: () => Connection
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: NodeJS.ReadableStream
  /** Throws if the file cannot be read. */
  readonly readFile: (path: string) => string
  /** Relative paths of files start here. */
  readonly cwd: string
  readonly newId: () => string
  readonly now: () => Date
}

export interface Verb {
  readonly name: string
  /** One line of the overview. */
  readonly summary: string
  /** Arguments as the help shows them, such as `NAME`; in brackets if they may be missing. */
  readonly words: string
  /** Of arguments. */
  readonly count: readonly [least: number, most: number]
  /** Words that completion offers. */
  readonly choices?: readonly string[]
  readonly options: Readonly<Record<string, Option>>
  /** Its operations; the help derives the scopes from them. */
  readonly calls: readonly (keyof Operations)[]
  /** Command lines without `fleetloop`. A test runs each. */
  readonly examples: readonly string[]
  /** More for its help. */
  readonly notes?: readonly string[]
  readonly run: (context: Context) => Promise<ExitCode>
}
