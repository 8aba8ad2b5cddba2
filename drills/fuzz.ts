/**
 * `npm run fuzz`: promise R8 on this machine, against the built service on an embedded PostgreSQL of its own. Exit code 1
 * where it is missed. The same seed makes the same requests, but for the tokens and ids in them.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startEmbedded } from '../src/db/embedded.ts'
import { fuzzService } from './fuzz-service.ts'
import { printFigures } from './stdout-report.ts'

const USAGE = `npm run fuzz -- --requests 1000000 --seed 1 --connections 64
  --requests     how many; Ctrl-C ends before
  --seed         another one makes other requests
  --connections  at once`

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
    connections: { type: 'string', default: '64' },
  },
})
const number = (text: string) => {
  if (!(Number(text) > 0)) throw new Error(`${text} is no number above 0\n${USAGE}`)
  return Number(text)
}

async function drill(): Promise<boolean> {
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  const options = {
    requests: number(values.requests),
    seed: number(values.seed),
    connections: number(values.connections),
  }
  const over = new AbortController()
  process.once('SIGINT', () => over.abort())
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-fuzz-'))
  const dataDir = join(dir, 'postgres')
  const embedded = await startEmbedded({ dataDir, log: () => {} })
  try {
    const figures = await fuzzService({
      ...options,
      databaseUrl: embedded.url,
      databaseLog: join(dataDir, 'postgres.log'),
      dataDir: join(dir, 'data'),
      signal: over.signal,
      print,
    })
    print(`\nR8, seed ${options.seed}`)
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
    process.stderr.write(`fuzz: ${error instanceof Error ? error.stack : error}\n`)
    process.exitCode = 1
  },
)
