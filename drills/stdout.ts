/**
 * `npm run drill:stdout`: promise R7 on this machine. The built service with an embedded PostgreSQL under a steady
 * load, and a reader of its stdout that stops, goes on, and is killed. Exit code 1 where a promise is missed. Linux.
 */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { endStalled, readerKilled } from './stdout-ends.ts'
import { type DrillOptions, readerStops } from './stdout-phases.ts'
import { printFigures } from './stdout-report.ts'

const USAGE = `npm run drill:stdout -- --seconds 60 --rate 2000 --windows 9 --ring-mib 4
  --seconds   how long the reader runs, and then stops; a window is a tenth of it
  --rate      heartbeats, and so lines, a second
  --windows   interleaved windows of each kind, for p99
  --ring-mib  LOG_BUFFER_BYTES of the service, MiB`
const MIB = 1024 * 1024

function readOptions(): Record<'seconds' | 'rate' | 'windows' | 'ring-mib', number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      rate: { type: 'string', default: '2000' },
      windows: { type: 'string', default: '9' },
      'ring-mib': { type: 'string', default: '4' },
    },
  })
  const number = (text: string) => {
    if (!(Number(text) > 0)) throw new Error(`${text} is no number above 0\n${USAGE}`)
    return Number(text)
  }
  return {
    seconds: number(values.seconds),
    rate: number(values.rate),
    windows: number(values.windows),
    'ring-mib': number(values['ring-mib']),
  }
}

async function drill(): Promise<boolean> {
  const given = readOptions()
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-drill-'))
  const adminToken = randomBytes(32).toString('base64url')
  const options: DrillOptions = {
    dir,
    adminToken,
    settings: {
      DATA_DIR: join(dir, 'data'),
      ADMIN_TOKENS: `drill=${adminToken}`,
      HMAC_SECRET: randomBytes(32).toString('base64url'),
      HEARTBEAT_DEDUP_WINDOW_S: '0',
      LOG_BUFFER_BYTES: String(given['ring-mib'] * MIB),
    },
    stallS: given.seconds,
    ratePerS: given.rate,
    windows: given.windows,
    ringBytes: given['ring-mib'] * MIB,
    print,
  }
  try {
    const { figures, senders } = await readerStops(options)
    const killed = await readerKilled(options, senders)
    const stalled = await endStalled(options, senders)
    print(`\nR7, ${given.rate} lines a second, the reader stopped for ${given.seconds} s`)
    return printFigures([...figures, ...killed, ...stalled], print)
  } finally {
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

drill().then(
  (isHeld) => {
    process.exitCode = isHeld ? 0 : 1
  },
  (error: unknown) => {
    process.stderr.write(
      `drill:stdout: ${error instanceof Error ? error.message : String(error)}\n`,
    )
    process.exitCode = 1
  },
)
