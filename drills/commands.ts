/**
 * `npm run drill:commands`: promise R5 on this machine, on an embedded PostgreSQL of its own. Exit code 1 where
 * anything is broken.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startEmbedded } from '../src/db/embedded.ts'
import { runCommands } from './commands-run.ts'
import { seededRandom } from './seeded-random.ts'
import { printFigures } from './stdout-report.ts'

const USAGE = `npm run drill:commands -- --commands 10000 --kills 20 --devices 200 --rate 100 --seed 1
  --commands  created while replicas are killed
  --kills     SIGKILLs, to either of two replicas
  --devices   phones; one in 50 is never reached
  --rate      commands a second
  --seed      of the kills and of FCM's answers; what the machine does between them is chance`
const DARK_SHARE = 0.02
const HEARTBEAT_INTERVAL_S = 5

const { values } = parseArgs({
  options: {
    commands: { type: 'string', default: '10000' },
    kills: { type: 'string', default: '20' },
    devices: { type: 'string', default: '200' },
    rate: { type: 'string', default: '100' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
})
const number = (text: string) => {
  if (!(Number(text) >= 0)) throw new Error(`${text} is no number\n${USAGE}`)
  return Number(text)
}

async function drill(): Promise<boolean> {
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  const devices = number(values.devices)
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-drill-'))
  const embedded = await startEmbedded({ dataDir: join(dir, 'postgres'), log: () => {} })
  try {
    const figures = await runCommands({
      databaseUrl: embedded.url,
      dataDir: join(dir, 'data'),
      commands: number(values.commands),
      kills: number(values.kills),
      devices,
      darkDevices: Math.floor(devices * DARK_SHARE),
      ratePerS: number(values.rate),
      heartbeatIntervalS: HEARTBEAT_INTERVAL_S,
      leaseCutS: null,
      random: seededRandom(number(values.seed)),
      print,
    })
    print(`\nR5, ${values.commands} commands, ${values.kills} kills, seed ${values.seed}`)
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
    process.stderr.write(`drill:commands: ${error instanceof Error ? error.stack : error}\n`)
    process.exit(1) // calls that are made again until they are answered would go on for ever
  },
)
