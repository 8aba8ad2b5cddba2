/** The built service on a pipe whose reader, a `cat` into a file, can be stopped, woken and killed. Linux. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { residentBytes } from '../../testkit/processes.ts'

export interface Rig {
  readonly origin: string
  readonly reader: ChildProcess
  /** What the reader got so far; all of it after `end`. */
  readonly outputPath: string
  /** Resident memory of the service now; 0 once it has ended. */
  rssBytes(): number
  /** SIGTERM; resolves when the service has ended. */
  end(): Promise<Ended>
  /** Wakes the reader and waits until it has read the rest. */
  readRest(): Promise<void>
  /** Ends both by force where they still run. */
  destroy(): Promise<void>
}

export interface Ended {
  /** null: a signal ended it, such as its own watchdog's. */
  readonly code: number | null
  readonly tookMs: number
  /** By its own count: without a note on stderr nothing was dropped. */
  readonly note: { readonly written: number; readonly dropped: number } | undefined
}

/** Beside drills/ in whatever folder this was compiled to. */
const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url))

/** Resolves when the service listens; it answers 503 until its database is prepared. `name` is free in `dir`. */
export async function startRig(
  dir: string,
  name: string,
  settings: Readonly<Record<string, string>>,
): Promise<Rig> {
  const pipe = join(dir, `${name}.pipe`)
  const outputPath = join(dir, `${name}.log`)
  execFileSync('mkfifo', [pipe])
  const bothFd = openSync(pipe, constants.O_RDWR) // no open of one end waits for the other
  const fds = {
    read: openSync(pipe, 'r'),
    write: openSync(pipe, 'w'),
    out: openSync(outputPath, 'w'),
  }
  const reader = spawn('cat', { stdio: [fds.read, fds.out, 'inherit'] })
  const { PATH, TMPDIR } = process.env
  const service = spawn(process.execPath, ['--enable-source-maps', MAIN], {
    stdio: ['ignore', fds.write, 'pipe'],
    env: { PATH, TMPDIR, PORT: '0', ...settings },
  })
  for (const fd of [bothFd, ...Object.values(fds)]) closeSync(fd)
  const exited = once(service, 'exit')
  const closed = once(service, 'close')
  const readerExited = once(reader, 'exit')
  let said = ''
  const { stderr } = service
  if (stderr === null) throw new Error('no stderr')
  stderr.setEncoding('utf8')
  const origin = await new Promise<string>((resolve, reject) => {
    stderr.on('data', (text: string) => {
      said += text
      const found = /listening on (http\S+)\n/.exec(said)?.[1]
      if (found !== undefined) resolve(found)
    })
    exited.then(() => reject(new Error(`the service did not start:\n${said}`)), reject)
  })

  return {
    origin,
    reader,
    outputPath,
    rssBytes() {
      return residentBytes(service.pid ?? 0)
    },
    async end() {
      const startedAtMs = performance.now()
      service.kill('SIGTERM')
      const [code] = await exited
      const tookMs = performance.now() - startedAtMs
      await closed
      const [, written, dropped] = /log: (\d+) lines written, (\d+) dropped/.exec(said) ?? []
      const note = { written: Number(written), dropped: Number(dropped) }
      return { code, tookMs, note: written === undefined ? undefined : note }
    },
    async readRest() {
      reader.kill('SIGCONT')
      await readerExited
    },
    async destroy() {
      for (const child of [service, reader]) child.kill('SIGKILL')
      await Promise.all([exited, readerExited])
    },
  }
}
