/** The built service as a child process on an embedded PostgreSQL in a temporary directory; stopped and removed at the end. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { LogBook } from '../../testkit/log-book.ts'

export interface ServiceProcess {
  readonly log: LogBook
  /** Resolves with the origin once requests are served; rejects where the service ends before. */
  readonly ready: Promise<string>
  /** Rejects when the service ends unasked or writes to stdout what is no log line; never resolves. */
  readonly failed: Promise<never>
  /** SIGTERM, the exit code, then its directory is removed. Repeatable; a second call hurries the first. */
  stop(): Promise<number | null>
}

/** Beside sim/ in whatever folder this was compiled to. */
const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url))
/** initdb and the start of PostgreSQL on a slow machine. */
const READY_MS = 60_000
/** More than SHUTDOWN_GRACE_MS. */
const STOP_MS = 20_000
const SHOWN_NOTES = 2_000

/** `settings`: its environment; nothing else is inherited but PATH and TMPDIR. */
export function startServiceProcess(settings: Readonly<Record<string, string>>): ServiceProcess {
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-'))
  const { PATH, TMPDIR } = process.env
  // A process group of its own: Ctrl-C at the terminal reaches us, and we stop it in order.
  const child = spawn(process.execPath, ['--enable-source-maps', MAIN], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: { PATH, TMPDIR, PORT: '0', DATA_DIR: dataDir, ...settings },
  })
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`could not be started: ${error.message}`))
    child.once('close', (code, signal) => resolve(`ended with ${signal ?? `exit code ${code}`}`))
  })
  const notes = collectNotes(child)
  let isStopping = false
  let hasSignalled = false
  let fail: (error: Error) => void = () => {}
  const failed = new Promise<never>((_, reject) => {
    fail = reject
  })
  failed.catch(() => {}) // for a caller that only stops
  const log = new LogBook(child.stdout, (line) => {
    fail(new Error(`the service wrote to stdout what is no log line: ${line.slice(0, 200)}`))
  })
  ended.then((how) => {
    if (!isStopping) fail(new Error(`the service ${how}; its last notes:\n${notes.text()}`))
  }, fail)

  const ready = Promise.race([
    failed,
    log
      .waitFor(({ event }) => event === 'service.ready', 'service.ready', READY_MS)
      .then(() => notes.origin),
  ])
  ready.catch(() => {})

  async function stopAndRemove(): Promise<number | null> {
    isStopping = true
    try {
      // Before it listens, a signal would end it and leave its PostgreSQL behind.
      await Promise.race([notes.origin, ended])
      hasSignalled = child.kill('SIGTERM')
      const lastResort = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      await ended
      clearTimeout(lastResort)
      return child.exitCode
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
      else if (hasSignalled) child.kill('SIGTERM')
      return stopping
    },
  }
}

/** stderr: what the service has to say to people. */
function collectNotes(child: ChildProcessByStdio<null, Readable, Readable>): {
  readonly origin: Promise<string>
  readonly text: () => string
} {
  let text = ''
  const origin = new Promise<string>((resolve) => {
    child.stderr.setEncoding('utf8')
    child.stderr.on('data', (more: string) => {
      text = (text + more).slice(-SHOWN_NOTES)
      const found = /listening on (http\S+)\n/.exec(text)?.[1]
      if (found !== undefined) resolve(found)
    })
  })
  return { origin, text: () => text.trim() }
}
