/** The service as a process of its own: in tests, drills, benches and the demo. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { atExit } from './process/at-exit.ts'

export interface LaunchOptions {
  /** Its environment; it inherits nothing else but PATH and TMPDIR. Without PORT it takes any free one. */
  readonly settings: Readonly<Record<string, string>>
  /** A script beside src/, or the URL or path of another build. Default: the service as it ships. */
  readonly main?: string | URL
  /** Options of its Node. Default: source maps. */
  readonly nodeArgs?: readonly string[]
  /** What is executed, of the command of Node and its arguments; default: that command. See `inShell`. */
  readonly command?: (node: readonly string[]) => readonly string[]
  readonly stdin?: 'pipe'
  /** Default: a pipe, which the caller must read. */
  readonly stdout?: 'pipe' | 'ignore' | number
  /** script(1) runs it: stdout shows what stderr would. */
  readonly hasTerminal?: boolean
  /** In a process group of its own, which Ctrl-C does not reach; the caller must end it. */
  readonly isDetached?: boolean
}

export interface Launched {
  readonly process: ChildProcess
  readonly pid: number
  /** Resolves once it listens; rejects if it ends before. */
  readonly origin: Promise<string>
  /** How it ended; never rejects. */
  readonly exited: Promise<Ended>
  /** As `exited`, once all of its pipes have been read. */
  readonly ended: Promise<Ended>
  /** All of stderr so far. */
  readonly notes: () => string
  /** Resolves with the first group of `pattern` in `notes`; rejects if the process ends without it. */
  noted(pattern: RegExp): Promise<string>
  signal(signal: NodeJS.Signals): void
  /** SIGTERM; resolves when it has ended. */
  stop(): Promise<Ended>
}

export interface Ended {
  readonly code: number | null
  readonly signal: string | null
}

/** As `npm start`, the image and the unit have them. */
export const START_ARGS: readonly string[] = [
  '--enable-source-maps',
  '--max-semi-space-size=16',
  '--max-old-space-size=512',
]

/** For `command`: `line` is run by a shell, in which "$@" is Node with its arguments. */
export const inShell = (line: string) => (node: readonly string[]) => [
  'sh',
  ...['-c', line, 'sh', ...node],
]

export const withMaxOpenFiles = (count: number) => inShell(`ulimit -n ${count} && exec "$@"`)

export function launch(options: LaunchOptions): Launched {
  const { settings, main = 'src/main.js', nodeArgs = START_ARGS } = options
  const path = fileURLToPath(new URL(main, new URL('../', import.meta.url)))
  const node = [process.execPath, ...nodeArgs, path]
  const [file = '', ...args] = options.command?.(node) ?? node
  const { PATH, TMPDIR } = process.env
  const isDetached = options.isDetached === true
  const child = spawn(file, args, {
    stdio: [options.stdin ?? 'ignore', options.stdout ?? 'pipe', 'pipe'],
    env: { PATH, TMPDIR, PORT: '0', ...settings },
    detached: isDetached,
  })
  const ended = endOf(child, 'close')
  if (child.pid === undefined) throw new Error(`${file} could not be started`)
  if (!isDetached)
    child.once(
      'exit',
      atExit(() => child.kill('SIGKILL')),
    )
  const { stdout, stderr } = child
  const notes = gather(options.hasTerminal === true ? [stdout, stderr] : [stderr])
  const exited = endOf(child, 'exit')
  const failed = exited.then(async (end) => {
    if (stderr?.closed === false) await once(stderr, 'close')
    throw new Error(
      `the service ended with ${end.signal ?? `exit code ${end.code}`}:\n${notes.text()}`,
    )
  })
  failed.catch(() => {}) // for a caller that waits for nothing
  const noted = (pattern: RegExp) => Promise.race([notes.find(pattern), failed])
  const origin = noted(/listening on (http\S+)\s/)
  origin.catch(() => {}) // for a caller that does not need it
  return {
    process: child,
    pid: child.pid,
    origin,
    exited,
    ended,
    notes: notes.text,
    noted,
    signal: (signal) => void child.kill(signal),
    stop() {
      child.kill('SIGTERM')
      return ended
    },
  }
}

function endOf(child: ChildProcess, event: 'exit' | 'close'): Promise<Ended> {
  return once(child, event).then(
    ([code, signal]) => ({ code, signal }),
    () => ({ code: null, signal: null }), // it could not be started
  )
}

/** Collects text; `find` waits for the first group of a pattern. */
function gather(streams: readonly ChildProcess['stdout'][]) {
  let text = ''
  const waiting = new Set<() => void>()
  for (const stream of streams) {
    stream?.setEncoding('utf8').on('data', (more: string) => {
      text += more
      for (const check of waiting) check()
    })
  }
  return {
    text: () => text,
    find: (pattern: RegExp) =>
      new Promise<string>((resolve) => {
        const check = () => {
          const found = pattern.exec(text)?.[1]
          if (found === undefined) return
          waiting.delete(check)
          resolve(found)
        }
        waiting.add(check)
        check()
      }),
  }
}

/** What the service reports of its log at its end, if it dropped lines. */
export interface LogNote {
  readonly written: number
  readonly dropped: number
}

export function logNote({ notes }: Pick<Launched, 'notes'>): LogNote | undefined {
  const [, written, dropped] = /log: (\d+) lines written, (\d+) dropped/.exec(notes()) ?? []
  if (written === undefined) return undefined
  return { written: Number(written), dropped: Number(dropped) }
}

export interface ReplicaOptions
  extends Pick<LaunchOptions, 'settings' | 'main' | 'nodeArgs' | 'command'> {
  /** Default: any free one. */
  readonly port?: number
  /** Gets each line of its log. */
  readonly onLine?: (line: string) => void
}

/** A service of a drill, whose log may grow longer than our memory: only these lines are kept. */
export interface Replica extends Launched {
  /** Resolves with its origin once it takes requests; rejects if it ends before. */
  readonly ready: Promise<string>
  /** Its log lines about a response 500, so far. */
  readonly faultLines: readonly string[]
  /** Its db.unavailable and db.recovered lines, so far. */
  readonly databaseLines: readonly string[]
}

export function startReplica({ settings, port = 0, onLine, ...options }: ReplicaOptions): Replica {
  const service = launch({ ...options, settings: { ...settings, PORT: String(port) } })
  const { stdout } = service.process
  if (stdout === null) throw new Error('no stdout')
  const faultLines: string[] = []
  const databaseLines: string[] = []
  const lines = createInterface({ input: stdout })
  const isReady = new Promise<void>((resolve) => {
    lines.on('line', (line) => {
      onLine?.(line)
      if (line.includes('"event":"service.ready"')) resolve()
      if (line.includes('"status_code":500')) faultLines.push(line)
      if (/"event":"db\.(unavailable|recovered)"/.test(line)) databaseLines.push(line)
    })
  })
  const ready = Promise.race([
    isReady.then(() => service.origin),
    service.ended.then(({ code, signal }) => {
      throw new Error(
        `the service ended with ${signal ?? `exit code ${code}`}:\n${service.notes()}`,
      )
    }),
  ])
  ready.catch(() => {}) // for a caller that does not wait for it
  return { ...service, ready, faultLines, databaseLines }
}
