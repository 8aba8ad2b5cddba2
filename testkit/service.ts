/** One life of the service as a process that a drill ends by SIGKILL; the next life takes the same database and port. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface ReplicaOptions {
  /** Its environment; nothing else is inherited but PATH and TMPDIR. */
  readonly settings: Readonly<Record<string, string>>
  /** Default: any free one. */
  readonly port?: number
  /** Default: the service as it ships. A URL: another build of it. */
  readonly main?: 'src/main.js' | 'testkit/failpoint-main.js' | URL
  /** Gets each line of its log. */
  readonly onLine?: (line: string) => void
  /** Options of its Node. */
  readonly nodeArgs?: readonly string[]
  /** Set by `ulimit -n`; default: as we have it. */
  readonly maxOpenFiles?: number
}

export interface Replica {
  readonly pid: number
  /** Once it listens; rejects where it ends before. */
  readonly origin: Promise<string>
  /** Once it takes requests; rejects where it ends before. */
  readonly ready: Promise<void>
  /** How it ended; never rejects. */
  readonly ended: Promise<Ended>
  /** Its log lines about an answer 500, so far. */
  readonly faultLines: readonly string[]
  /** Its db.unavailable and db.recovered lines, so far. */
  readonly databaseLines: readonly string[]
  /** All of stderr so far. */
  readonly notes: () => string
  signal(signal: 'SIGKILL' | 'SIGTERM'): void
}

export interface Ended {
  readonly code: number | null
  readonly signal: string | null
}

export function startReplica({
  settings,
  port = 0,
  main = 'src/main.js',
  onLine,
  nodeArgs = [],
  maxOpenFiles,
}: ReplicaOptions): Replica {
  const path = fileURLToPath(main instanceof URL ? main : new URL(`../${main}`, import.meta.url))
  const { PATH, TMPDIR } = process.env
  const node = [process.execPath, '--enable-source-maps', ...nodeArgs, path]
  const limited = ['sh', '-c', `ulimit -n ${maxOpenFiles} && exec "$@"`, 'sh', ...node]
  const [file = '', ...args] = maxOpenFiles === undefined ? node : limited
  const child = spawn(file, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH, TMPDIR, ...settings, PORT: String(port) },
  })
  // Where the drill itself breaks, nobody ends it.
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const ended = once(child, 'close').then(([code, signal]) => {
    process.off('exit', kill)
    return { code, signal }
  })
  let notes = ''
  child.stderr.setEncoding('utf8')
  const origin = new Promise<string>((resolve) => {
    child.stderr.on('data', (text: string) => {
      notes += text
      const found = /listening on (http\S+)\n/.exec(notes)?.[1]
      if (found !== undefined) resolve(found)
    })
  })
  const died = ended.then(({ code, signal }) => {
    throw new Error(`the service ended with ${signal ?? `exit code ${code}`}:\n${notes}`)
  })
  const faultLines: string[] = []
  const databaseLines: string[] = []
  // A log may grow longer than our memory: nothing else of it is kept.
  const lines = createInterface({ input: child.stdout })
  const ready = new Promise<void>((resolve) => {
    lines.on('line', (line) => {
      onLine?.(line)
      if (line.includes('"event":"service.ready"')) resolve()
      if (line.includes('"status_code":500')) faultLines.push(line)
      if (/"event":"db\.(unavailable|recovered)"/.test(line)) databaseLines.push(line)
    })
  })
  if (child.pid === undefined) throw new Error(`${file} could not be started`)
  const replica = {
    pid: child.pid,
    origin: Promise.race([origin, died]),
    ready: Promise.race([ready, died]),
    ended,
    faultLines,
    databaseLines,
    notes: () => notes,
    signal: (signal: 'SIGKILL' | 'SIGTERM') => void child.kill(signal),
  }
  // Whoever asks is told; a life that nobody asks about is no fault of this process.
  for (const promise of [died, replica.origin, replica.ready]) promise.catch(() => {})
  return replica
}
