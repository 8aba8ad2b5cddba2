/** The service on a pipe whose reader, a `cat` into a file, can be stopped, resumed and killed. Linux. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { type LogNote, launch, logNote } from '../../testkit/service.ts'

export interface Rig {
  readonly origin: string
  readonly reader: ChildProcess
  /** The reader's output; complete after `end`. */
  readonly outputPath: string
  readonly pid: number
  /** SIGTERM; resolves when the service has ended. */
  end(): Promise<Ended>
  /** Resumes the reader and waits until it has read the rest. */
  readRest(): Promise<void>
  /** Kills both. Repeatable. */
  destroy(): Promise<void>
}

export interface Ended {
  /** null: killed by a signal, such as its own watchdog's. */
  readonly code: number | null
  readonly tookMs: number
  /** undefined: nothing was dropped. */
  readonly note: LogNote | undefined
}

/** Resolves when the service listens; it returns 503 until its database is prepared. `name` must be new in `dir`. */
export async function startRig(
  dir: string,
  name: string,
  settings: Readonly<Record<string, string>>,
): Promise<Rig> {
  const pipe = join(dir, `${name}.pipe`)
  const outputPath = join(dir, `${name}.log`)
  execFileSync('mkfifo', [pipe])
  const bothFd = openSync(pipe, constants.O_RDWR) // opening one end must not wait for the other
  const fds = {
    read: openSync(pipe, 'r'),
    write: openSync(pipe, 'w'),
    out: openSync(outputPath, 'w'),
  }
  const reader = spawn('cat', { stdio: [fds.read, fds.out, 'inherit'] })
  const service = launch({ settings, stdout: fds.write })
  for (const fd of [bothFd, ...Object.values(fds)]) closeSync(fd)
  const readerExited = once(reader, 'exit')
  const origin = await service.origin

  return {
    origin,
    reader,
    outputPath,
    pid: service.pid,
    async end() {
      const startedAtMs = performance.now()
      service.signal('SIGTERM')
      const { code } = await service.exited
      const tookMs = performance.now() - startedAtMs
      await service.ended
      return { code, tookMs, note: logNote(service) }
    },
    async readRest() {
      reader.kill('SIGCONT')
      await readerExited
    },
    async destroy() {
      service.signal('SIGKILL')
      reader.kill('SIGKILL')
      await Promise.all([service.exited, readerExited])
    },
  }
}
