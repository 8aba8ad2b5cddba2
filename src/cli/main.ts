/** The program `fleetloop`, dist/cli.js: reads the process, runs one verb. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readVersion } from '../app/version.ts'
import { runCommand } from './run-verb.ts'
import { createTerminal } from './terminal/terminal.ts'

const { stdin, stderr, env } = process
const terminal = createTerminal({ stdin, stdout: process.stdout, stderr, env })

process.once('SIGINT', () => {
  terminal.interrupt()
  // The shell learns from the signal that this was Ctrl-C (130).
  process.kill(process.pid, 'SIGINT')
})

process.exitCode = await runCommand(process.argv.slice(2), {
  terminal,
  env,
  stdin,
  readFile: (path) => readFileSync(path, 'utf8'),
  cwd: process.cwd(),
  newId: randomUUID,
  now: () => new Date(),
  version: readVersion,
})
