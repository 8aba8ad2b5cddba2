/** `npm run drill:apk`: APKs in a row, cut off and killed, on an embedded PostgreSQL of its own. Exit code 1 where anything is broken. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startEmbedded } from '../src/db/embedded.ts'
import { runApks } from './apk-run.ts'
import { seededRandom } from './seeded-random.ts'
import { printFigures } from './stdout-report.ts'

const USAGE = `npm run drill:apk -- --uploads 50 --min 10 --max 50 --cuts 10 --phones 10 --seed 1
  --uploads     in a row
  --min, --max  size of one, million bytes
  --cuts        uploads that break off, and as many kills within one
  --phones      that pull the latest meanwhile
  --seed        of the sizes`
const MB = 1_000_000

const { values } = parseArgs({
  options: {
    uploads: { type: 'string', default: '50' },
    min: { type: 'string', default: '10' },
    max: { type: 'string', default: '50' },
    cuts: { type: 'string', default: '10' },
    phones: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
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
    const figures = await runApks({
      databaseUrl: embedded.url,
      dir,
      uploads: number(values.uploads),
      minBytes: MB * number(values.min),
      maxBytes: MB * number(values.max),
      cuts: number(values.cuts),
      phones: number(values.phones),
      random: seededRandom(number(values.seed)),
      print,
    })
    print(
      `\nAPKs of ${values.min} to ${values.max} MB, ${values.phones} phones, seed ${values.seed}`,
    )
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
    process.stderr.write(`drill:apk: ${error instanceof Error ? error.stack : error}\n`)
    process.exitCode = 1
  },
)
