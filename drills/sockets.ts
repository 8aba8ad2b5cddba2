/**
 * `npm run drill:sockets`: promise R9 on this machine, on an embedded PostgreSQL of its own. Exit code 1 where it is
 * missed. Linux; needs as many descriptors as sockets (`ulimit -n`).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startEmbedded } from '../src/db/embedded.ts'
import { runSockets } from './sockets-run.ts'
import { printFigures } from './stdout-report.ts'

const USAGE = `npm run drill:sockets -- --slow 5000 --half 500 --readers 200 --rounds 5 --rate 200
  --slow     sockets that send a byte of a head each second
  --half     sockets that stop within a body
  --readers  sockets that take a byte of an APK each second
  --rounds   waves of the first two, with quiet windows between them
  --rate     honest heartbeats a second`

const { values } = parseArgs({
  options: {
    slow: { type: 'string', default: '5000' },
    half: { type: 'string', default: '500' },
    readers: { type: 'string', default: '200' },
    rounds: { type: 'string', default: '5' },
    rate: { type: 'string', default: '200' },
  },
})
const number = (text: string) => {
  if (!(Number(text) > 0)) throw new Error(`${text} is no number above 0\n${USAGE}`)
  return Number(text)
}

async function drill(): Promise<boolean> {
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-drill-'))
  const embedded = await startEmbedded({ dataDir: join(dir, 'postgres'), log: () => {} })
  try {
    const figures = await runSockets({
      databaseUrl: embedded.url,
      dataDir: join(dir, 'data'),
      slow: number(values.slow),
      half: number(values.half),
      readers: number(values.readers),
      rounds: number(values.rounds),
      heartbeatsPerS: number(values.rate),
      print,
    })
    print(`\nR9, ${values.rate} honest heartbeats a second`)
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
    process.stderr.write(`drill:sockets: ${error instanceof Error ? error.stack : error}\n`)
    process.exitCode = 1
  },
)
