/** The process: environment → configuration → service, signals, exit code. Of the service, only this file reads `process`. */
import { readFileSync } from 'node:fs'
import { isatty } from 'node:tty'
import { type Config, ConfigError, parseConfig, unknownNote } from '../config/config.ts'
import { EmbeddedDatabaseError } from '../dev/run-user.ts'
import { waitAtMost } from '../lib/timeouts.ts'
import { type Service, startServer } from '../server.ts'
import { createLogger, type Logger } from '../telemetry/log/logger.ts'
import { createMetrics } from '../telemetry/metrics/metrics.ts'
import { parseArguments } from './arguments.ts'
import { makeDataDirectory } from './data-directory.ts'
import { firstRunSecrets } from './first-run.ts'
import { ListenError } from './listening.ts'
import type { Edges } from './service-context.ts'
import { StartError } from './startup.ts'
import { createSupervisor, type Supervisor } from './systemd.ts'
import { readVersion } from './version.ts'

/** EX_CONFIG of sysexits.h: the configuration is wrong, and a restart does not help. */
const EXIT_CONFIG = 78
/** EX_USAGE of sysexits.h: wrong arguments. */
const EXIT_USAGE = 64
const EXIT_FAILURE = 1
/** The log gets the rest of SHUTDOWN_GRACE_MS, within these two limits. */
const LOG_CLOSE_MS = 1_000
const MIN_LOG_CLOSE_MS = 250
const CRASH_LOG_CLOSE_MS = 500
const DEFAULT_OPEN_FILES = 1_024
/** Added to SHUTDOWN_GRACE_MS; whatever still hangs then is killed. */
const WATCHDOG_EXTRA_MS = 500
/** npm forwards a Ctrl-C that the terminal has also sent to this process: that is not a second signal. */
const SAME_INTERRUPT_MS = 500

const printNotice = (text: string) => process.stderr.write(`${text}\n`)

/** Runs the service until a signal ends the process. Benchmarks and tests replace `parts`. */
export function runProcess(parts: Partial<Pick<Edges, 'createMetrics' | 'failpoint'>> = {}): void {
  process.stderr.on('error', () => {}) // a closed stderr must not end the service
  const parsed = parseArguments(process.argv.slice(2), readVersion)
  if (parsed.kind === 'print') {
    process.stdout.on('error', () => {})
    process.stdout.write(`${parsed.text}\n`)
    return
  }
  if (parsed.kind === 'invalid') {
    printNotice(parsed.text)
    process.exitCode = EXIT_USAGE
    return
  }
  run(parts).catch((error: unknown) => {
    printNotice(describe(error))
    process.exit(exitCodeOf(error))
  })
}

async function run(parts: Partial<Pick<Edges, 'createMetrics' | 'failpoint'>>): Promise<void> {
  const given = parseConfig(process.env, (path) => readFileSync(path, 'utf8'))
  makeDataDirectory(given.dataDir)
  const config = firstRunSecrets(given, printNotice)
  for (const variable of config.unknownVariables) printNotice(unknownNote(variable))
  const logger = createLogger({
    level: config.logLevel,
    bufferBytes: config.logBufferBytes,
    fd: 1,
    readable: readableLines(config),
  })
  let isCrashing = false
  const onFault = (error: unknown) => {
    if (!isCrashing) void crash(error, logger)
    isCrashing = true
  }
  process.on('uncaughtException', onFault)
  process.on('unhandledRejection', onFault)

  const supervisor = takeSupervisor()
  let service: Service | undefined
  const edges = { logger, printNotice, createMetrics, maxOpenFiles: maxOpenFiles(), ...parts }
  const starting = startServer(config, edges).then((started) => {
    service = started
    return started
  })
  const hurry = new AbortController()
  let stopping: { readonly reason: string; readonly atMs: number } | undefined
  /** Stops a service that is still starting, too, with its embedded PostgreSQL; in a hurry the next start cleans up. */
  const stop = async (reason: string, exitCode: number) => {
    stopping = { reason, atMs: performance.now() }
    supervisor.stopping()
    const graceMs = config.shutdownGraceMs + WATCHDOG_EXTRA_MS
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), graceMs).unref()
    // A failed start has cleaned up after itself.
    await waitAtMost(
      starting.catch(() => {}),
      graceMs,
      hurry.signal,
    )
    await service?.close(reason, hurry.signal)
    const leftMs = stopping.atMs + config.shutdownGraceMs - performance.now()
    await closeLog(logger, Math.min(LOG_CLOSE_MS, Math.max(MIN_LOG_CLOSE_MS, leftMs)))
    process.exit(isCrashing ? EXIT_FAILURE : exitCode)
  }
  const onSignal = (name: string) => {
    if (stopping === undefined) {
      void stop(name, 0)
      return
    }
    const isSame = name === 'SIGINT' && stopping.reason === name
    if (!isSame || performance.now() - stopping.atMs > SAME_INTERRUPT_MS) hurry.abort()
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  try {
    const { origin, ready } = await starting
    printNotice(`listening on ${origin}`)
    if (stopping === undefined) supervisor.ready()
    await ready
  } catch (error) {
    if (stopping !== undefined) return // a signal stopped the start, and determines the exit code
    printNotice(describe(error))
    await stop('start refused', exitCodeOf(error))
  }
}

/** Removes the variables, so that an embedded PostgreSQL does not notify the supervisor in our name. */
function takeSupervisor(): Supervisor {
  const { PATH, NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = process.env
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete process.env[name]
  return createSupervisor(
    { PATH, NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID },
    process.pid,
    printNotice,
  )
}

/** Readable lines for an embedded start at a terminal; a pipe or a file gets JSON. */
function readableLines(config: Config): { readonly isColored: boolean } | undefined {
  if (config.databaseUrl !== null || !isatty(1)) return undefined // reading process.stdout would open it
  const { NO_COLOR = '', TERM = 'dumb' } = process.env
  return { isColored: NO_COLOR === '' && TERM !== 'dumb' }
}

/** Node has already raised the soft limit to the hard one. */
function maxOpenFiles(): number {
  try {
    return openFilesOf(readFileSync('/proc/self/limits', 'utf8'))
  } catch {
    return DEFAULT_OPEN_FILES // a system without /proc
  }
}

/** `limits`: the content of /proc/self/limits. */
export function openFilesOf(limits: string): number {
  const [, soft = ''] = /^Max open files +(\w+)/m.exec(limits) ?? []
  return soft === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(soft) || DEFAULT_OPEN_FILES
}

/** The state is unknown: writes the lines that were logged and exits; a supervisor starts the service again. */
async function crash(error: unknown, logger: Logger): Promise<void> {
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), 2 * CRASH_LOG_CLOSE_MS).unref()
  printNotice(error instanceof Error ? (error.stack ?? error.message) : String(error))
  await closeLog(logger, CRASH_LOG_CLOSE_MS)
  process.exit(EXIT_FAILURE)
}

/** Reports dropped lines on stderr, but never on a terminal, where Ctrl-S would block the exit. */
async function closeLog(logger: Logger, deadlineMs: number): Promise<void> {
  const { written, dropped } = await logger.close(deadlineMs)
  if (dropped > 0 && process.stderr.isTTY !== true) {
    printNotice(`log: ${written} lines written, ${dropped} dropped`)
  }
}

/** A restart does not help against it. */
function isConfiguration(error: unknown): error is Error {
  return [ConfigError, StartError, EmbeddedDatabaseError].some((kind) => error instanceof kind)
}

/** The message alone where it says what to do; else with the stack. */
function describe(error: unknown): string {
  if (isConfiguration(error) || error instanceof ListenError) return error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

function exitCodeOf(error: unknown): number {
  return isConfiguration(error) ? EXIT_CONFIG : EXIT_FAILURE
}
