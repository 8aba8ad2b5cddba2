/**
 * `npm run drill:fcm-down`: promise R6 on this machine, on an embedded PostgreSQL of its own. Exit code 1 where it is
 * missed.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startEmbedded } from '../src/db/embedded.ts'
import { runFcmDown } from './fcm-down-run.ts'
import { printFigures } from './stdout-report.ts'

const USAGE = `npm run drill:fcm-down -- --minutes 10 --windows 9 --rate 500 --commands 20
  --minutes   with FCM dead, in all: half hanging, half refusing connections; alive half as long beside them
  --windows   interleaved windows of each kind, for p99
  --rate      heartbeats a second
  --commands  commands a second`
const REFUSAL_SHARE = 1 / 20

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    windows: { type: 'string', default: '9' },
    rate: { type: 'string', default: '500' },
    commands: { type: 'string', default: '20' },
  },
})
const number = (text: string) => {
  if (!(Number(text) > 0)) throw new Error(`${text} is no number above 0\n${USAGE}`)
  return Number(text)
}

async function drill(): Promise<boolean> {
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  const deadS = 60 * number(values.minutes)
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-drill-'))
  const embedded = await startEmbedded({ dataDir: join(dir, 'postgres'), log: () => {} })
  try {
    const figures = await runFcmDown({
      databaseUrl: embedded.url,
      dataDir: join(dir, 'data'),
      deadS,
      windows: number(values.windows),
      heartbeatsPerS: number(values.rate),
      commandsPerS: number(values.commands),
      refusalS: deadS * REFUSAL_SHARE,
      print,
    })
    print(`\nR6, FCM dead for ${values.minutes} min, ${values.rate} heartbeats a second`)
    return printFigures(figures, print)
  } finally {
    await embedded.stop()
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

drill().then(
  (isHeld) => {
    process.exitCode = isHeld ? 0 : 1
  },
  (error: unknown) => {
    process.stderr.write(`drill:fcm-down: ${error instanceof Error ? error.stack : error}\n`)
    process.exitCode = 1
  },
)
