/** `npm run simulate`: phones with the fielded agent's habits against any running service. See USAGE. */
import { randomBytes } from 'node:crypto'
import type { FakeFcm } from '../fcm/fake-fcm.ts'
import { openJournal } from '../load/journal.ts'
import { startSimulatedFcm } from './fcm.ts'
import { type CommandLine, readCommandLine, USAGE, UsageError } from './options.ts'
import { createSimulation, type Simulation } from './run.ts'
import { summaryText } from './summary.ts'

const EXIT_FAULT = 1
const EXIT_USAGE = 64
/** A shell's exit code after a second Ctrl-C. */
const EXIT_INTERRUPTED = 130
/** npm repeats a Ctrl-C that the terminal has already sent us. */
const SAME_SIGNAL_MS = 500
const REDRAW_MS = 500
const PLAIN_LINE_MS = 5_000
const ERASE_LINE = '\r\u001b[2K'

async function main(): Promise<number> {
  const runId = `${Date.now().toString(36)}${randomBytes(2).toString('hex')}`
  const line = readCommandLine(process.argv.slice(2), process.env, runId)
  if (line === 'help') {
    process.stdout.write(USAGE)
    return 0
  }
  const stop = new AbortController()
  stopOnSignals(stop)
  const journal = line.journalPath === null ? undefined : openJournal(line.journalPath)
  const push = await startFcm(line)
  try {
    const simulation = createSimulation(line, { runId, push, journal, signal: stop.signal })
    const summary = await showProgress(simulation)
    say(summaryText(summary))
    await print(`${JSON.stringify(summary)}\n`)
    return summary.ok ? 0 : EXIT_FAULT
  } finally {
    await push?.close()
    journal?.close()
  }
}

function stopOnSignals(stop: AbortController): void {
  let stoppedAtMs = 0
  const onSignal = () => {
    if (!stop.signal.aborted) stoppedAtMs = performance.now()
    else if (performance.now() - stoppedAtMs > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED)
    stop.abort()
  }
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, onSignal)
}

async function startFcm(line: CommandLine): Promise<FakeFcm | undefined> {
  if (line.fcmPort === null) return undefined
  const { push, environment } = await startSimulatedFcm(line.fcmPort, line.fcmAccountPath)
  say(`a stand-in for FCM runs; the service reaches it with:\n${environment.join('\n')}\n`)
  return push
}

/** A line that is refreshed on a terminal, otherwise one every few seconds. */
async function showProgress(simulation: Simulation) {
  const isTerminal = process.stderr.isTTY === true
  const draw = () =>
    say(`${isTerminal ? ERASE_LINE : ''}${simulation.progress()}${isTerminal ? '' : '\n'}`)
  const timer = setInterval(draw, isTerminal ? REDRAW_MS : PLAIN_LINE_MS)
  try {
    return await simulation.run()
  } finally {
    clearInterval(timer)
    if (isTerminal) say(ERASE_LINE)
  }
}

function say(text: string): void {
  process.stderr.write(text)
}

/** Resolves once it is written, or stdout is closed. */
function print(text: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(text, () => resolve()))
}

process.stdout.on('error', () => {}) // a closed reader
process.stderr.on('error', () => {})
main().then(
  (exitCode) => process.exit(exitCode),
  (error: unknown) => {
    const isUsage = error instanceof UsageError
    const message = error instanceof Error ? error.message : String(error)
    say(`simulate: ${message}\n${isUsage ? 'simulate --help tells more\n' : ''}`)
    process.exit(isUsage ? EXIT_USAGE : EXIT_FAULT)
  },
)
