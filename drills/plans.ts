/**
 * `npm run drill:plans`: what the statements about commands read while ended commands pile up, on an embedded
 * PostgreSQL that is removed afterwards. Exit code 1 where one reads more than it may.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startEmbedded } from '../src/db/embedded.ts'
import { migrate, readMigrations } from '../src/db/migrate.ts'
import { explained } from './plans-explain.ts'
import { fillEnded, fillFleet, OPEN } from './plans-history.ts'
import { claim, faultsOf, rowsOf, STATEMENTS } from './plans-statements.ts'

const FIRST_COMMANDS = 10_000

function readCommands(): number {
  const { values } = parseArgs({ options: { commands: { type: 'string', default: '1000000' } } })
  const commands = Number(values.commands)
  if (Number.isSafeInteger(commands) && commands > FIRST_COMMANDS) return commands
  throw new Error(`npm run drill:plans -- --commands 1000000   (above ${FIRST_COMMANDS})`)
}

const print = (line: string) => void process.stdout.write(`${line}\n`)

async function explainClaim(db: pg.Client, commands: number): Promise<void> {
  for (const mode of claim.modes) {
    const [plan] = await explained(db, mode, claim.run)
    print(`claim, ${commands} ended, ${mode}: ${plan?.rowsRead} rows, ${plan?.pages} pages`)
  }
}

async function drill(db: pg.Client, commands: number): Promise<boolean> {
  await fillFleet(db)
  await fillEnded(db, 1, FIRST_COMMANDS)
  await explainClaim(db, FIRST_COMMANDS)
  await fillEnded(db, FIRST_COMMANDS + 1, commands)
  await explainClaim(db, commands)
  print(`\n${commands} ended commands and ${OPEN} open ones`)
  let isHeld = true
  for (const statement of STATEMENTS) {
    for (const mode of statement.modes) {
      const plans = await explained(db, mode, statement.run)
      const faults = faultsOf(statement, plans)
      isHeld &&= faults.length === 0
      const pages = plans.reduce((sum, plan) => sum + plan.pages, 0)
      const indexes = new Set(plans.flatMap((plan) => [...plan.indexes]))
      const used = [...indexes].filter((index) => index.startsWith('command'))
      print(`${faults.length === 0 ? 'held  ' : 'MISSED'}  ${statement.title} (${mode})`)
      print(`        ${rowsOf(plans)} rows, ${pages} pages, ${used.join(', ')}`)
      for (const fault of faults) print(`        ${fault}`)
    }
  }
  return isHeld
}

async function run(): Promise<boolean> {
  const commands = readCommands()
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-plans-'))
  try {
    const embedded = await startEmbedded({ dataDir, log: () => {} })
    try {
      await migrate(embedded.url, readMigrations())
      const db = new pg.Client({ connectionString: embedded.url })
      await db.connect()
      try {
        return await drill(db, commands)
      } finally {
        await db.end()
      }
    } finally {
      await embedded.stop()
    }
  } finally {
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 })
  }
}

run().then(
  (isHeld) => {
    process.exitCode = isHeld ? 0 : 1
  },
  (error: unknown) => {
    process.stderr.write(`drill:plans: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  },
)
