/**
 * The service as a child process with an embedded PostgreSQL in a temporary directory, which is removed at the end.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LogBook } from '../../testkit/log-book.ts'
import { launch } from '../../testkit/service.ts'

export interface ServiceProcess {
  readonly log: LogBook
  /** Resolves with the origin once requests are served; rejects if the service ends before. */
  readonly ready: Promise<string>
  /** Rejects if the service ends without a signal or writes anything but log lines to stdout; never resolves. */
  readonly failed: Promise<never>
  /** SIGTERM; removes the directory and returns the exit code. Repeatable; a second call speeds it up. */
  stop(): Promise<number | null>
}

/** For initdb and the start of PostgreSQL on a slow machine. */
const READY_MS = 60_000
/** Longer than SHUTDOWN_GRACE_MS. */
const STOP_MS = 20_000
const SHOWN_NOTES = 2_000

/** `settings` is its environment; it inherits nothing else but PATH and TMPDIR. */
export function startServiceProcess(settings: Readonly<Record<string, string>>): ServiceProcess {
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-'))
  // Ctrl-C at the terminal must reach only us; we then stop the service.
  const service = launch({ settings: { DATA_DIR: dataDir, ...settings }, isDetached: true })
  const { stdout } = service.process
  if (stdout === null) throw new Error('no stdout')
  let isStopping = false
  let hasSignalled = false
  let fail: (error: Error) => void = () => {}
  const failed = new Promise<never>((_, reject) => {
    fail = reject
  })
  failed.catch(() => {}) // for a caller that only stops
  const log = new LogBook(stdout, (line) => {
    fail(new Error(`the service wrote to stdout what is no log line: ${line.slice(0, 200)}`))
  })
  service.ended.then(({ code, signal }) => {
    const how = `ended with ${signal ?? `exit code ${code}`}`
    const notes = service.notes().slice(-SHOWN_NOTES).trim()
    if (!isStopping) fail(new Error(`the service ${how}; its last notes:\n${notes}`))
  }, fail)

  const ready = Promise.race([
    failed,
    log
      .waitFor(({ event }) => event === 'service.ready', 'service.ready', READY_MS)
      .then(() => service.origin),
  ])
  ready.catch(() => {})

  async function stopAndRemove(): Promise<number | null> {
    isStopping = true
    try {
      // Before it listens, a signal would end it and leave its PostgreSQL running.
      await service.origin.catch(() => {})
      hasSignalled = service.process.kill('SIGTERM')
      const lastResort = setTimeout(() => service.signal('SIGKILL'), STOP_MS)
      const { code } = await service.ended
      clearTimeout(lastResort)
      return code
    } finally {
      rmSync(dataDir, { recursive: true, force: true })
    }
  }
  let stopping: Promise<number | null> | undefined

  return {
    log,
    ready,
    failed,
    stop() {
      if (stopping === undefined) stopping = stopAndRemove()
      else if (hasSignalled) service.signal('SIGTERM')
      return stopping
    },
  }
}
