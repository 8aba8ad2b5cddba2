/** The command line within the test's process: what it prints on which stream, and its exit code. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { PassThrough, Readable } from 'node:stream'
import { runCommand } from '../../src/cli/run-verb.ts'
import { createTerminal } from '../../src/cli/terminal/terminal.ts'

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  /** Cells of the terminal; without it stdout and stderr are pipes. */
  readonly width?: number
  /** What the person types; undefined: stdin is no terminal. */
  readonly typed?: string
  /** What is piped in. */
  readonly piped?: string
  readonly cwd?: string
  /** Default: a day ahead of the service, whose clock must count, except for `doctor`. */
  readonly now?: () => Date
}

const DAY_MS = 86_400_000

export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { env = {}, width, typed, piped = '', cwd = '/nowhere' } = options
  const { now = () => new Date(Date.now() + (argv[0] === 'doctor' ? 0 : DAY_MS)) } = options
  const output = () =>
    Object.assign(new PassThrough({ highWaterMark: 2 ** 20 }), {
      isTTY: width !== undefined,
      columns: width ?? 0,
    })
  const [stdout, stderr] = [output(), output()]
  const stdin = Object.assign(Readable.from([typed ?? piped]), { isTTY: typed !== undefined })
  const terminal = createTerminal({ stdin, stdout, stderr, env })
  const code = await runCommand(argv, {
    terminal,
    env,
    stdin,
    readFile: (path) => readFileSync(path, 'utf8'),
    cwd,
    newId: randomUUID,
    now,
    version: () => '1.2.3',
  })
  const read = (stream: PassThrough) => String(stream.read() ?? '')
  return { code, out: read(stdout), err: read(stderr) }
}
