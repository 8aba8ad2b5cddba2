/** `npm run drill -- NAME`: measures one promise. Exit code 0: held, 1: missed or failed, 64: usage. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { collectWarnings } from '../testkit/process/warnings.ts'
import { type Drill, type Figure, printFigures, UsageError, type Value } from './drill.ts'
import { DRILLS } from './index.ts'

const EXIT_MISSED = 1
const EXIT_USAGE = 64
const EXIT_INTERRUPTED = 130

function usage(): string {
  const drills = DRILLS.map(({ name, promise, options }) => {
    const lines = Object.entries(options).map(
      ([option, { standard, what }]) =>
        `      --${option.padEnd(12)} ${what}${standard === false ? '' : ` (${standard})`}`,
    )
    return [`  ${name.padEnd(18)} ${promise}`, ...lines].join('\n')
  })
  return `npm run drill -- NAME [options]\n\n${drills.join('\n')}\n`
}

function readDrill(args: readonly string[]): [Drill, Readonly<Record<string, Value>>] {
  const [name = '', ...rest] = args
  const drill = DRILLS.find((one) => one.name.toLowerCase() === name.toLowerCase())
  if (drill === undefined) throw new UsageError(`no drill is called "${name}"`)
  const options = Object.entries(drill.options)
  const given = parsed(rest, drill.options)
  return [
    drill,
    Object.fromEntries(
      options.map(([option, { standard }]) => {
        const text = given[option]
        if (typeof text !== 'string' || typeof standard === 'string')
          return [option, text ?? standard]
        if (text.trim() !== '' && Number(text) >= 0) return [option, Number(text)]
        throw new UsageError(`--${option} is a number from 0, not "${text}"`)
      }),
    ),
  ]
}

function parsed(args: string[], options: Drill['options']) {
  const types = Object.entries(options).map(([name, { standard }]) => {
    const type: 'boolean' | 'string' = standard === false ? 'boolean' : 'string'
    return [name, { type }] as const
  })
  try {
    return parseArgs({ args, options: Object.fromEntries(types) }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

/** Of this process and the services that it started. */
const warnings = collectWarnings()

function warningsFigure(): Figure {
  return {
    promise: 'no process warning, such as MaxListenersExceededWarning',
    measured: warnings.slice(0, 5).join('\n        ') || 'none',
    isHeld: warnings.length === 0,
  }
}

async function main(): Promise<number> {
  const [drill, values] = readDrill(process.argv.slice(2))
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-drill-'))
  // Must be the last exit handler: what a drill starts registers its own earlier.
  const remove = () => rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => {
      process.once('exit', remove)
      process.exit(EXIT_INTERRUPTED)
    })
  }
  try {
    print(`${drill.name}: ${drill.promise}`)
    print(
      Object.entries(values)
        .map(([name, value]) => `--${name} ${value}`)
        .join(' '),
    )
    const startedAtMs = performance.now()
    const figures = [
      ...(await drill.run(values, { dir, dataDir: join(dir, 'data'), print })),
      warningsFigure(),
    ]
    const tookS = (performance.now() - startedAtMs) / 1_000
    print('')
    const isHeld = printFigures(figures, print)
    print(`\n${drill.name} ${isHeld ? 'is held' : 'is MISSED'}, after ${tookS.toFixed(0)} s`)
    return isHeld ? 0 : EXIT_MISSED
  } finally {
    remove()
  }
}

main().then(
  (exitCode) => process.exit(exitCode), // endless retries would keep it running
  (error: unknown) => {
    const isUsage = error instanceof UsageError
    const text = error instanceof Error ? (isUsage ? error.message : error.stack) : String(error)
    process.stderr.write(`drill: ${text}\n${isUsage ? usage() : ''}`)
    process.exit(isUsage ? EXIT_USAGE : EXIT_MISSED)
  },
)
