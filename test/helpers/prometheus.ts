/** A real Prometheus (Debian package `prometheus`) with the runbook's own files, and questions to it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { blocksOf } from './markdown.ts'

const RUNBOOK = fileURLToPath(new URL('RUNBOOK.md', import.meta.resolve('#package.json')))
export const CONFIG_FILE = 'prometheus.yml'
export const TOKEN_FILE = 'fleetloop-token'
/** Another process may take the free port first. */
const PORT_TRIES = 5

/** Why a test cannot run here; false where it can. */
export function missingTools(): string | false {
  const missing = ['prometheus', 'promtool'].filter((tool) => spawnSync(tool, ['--version']).error)
  return (
    missing.length > 0 &&
    `needs ${missing.join(' and ')}: apt-get install prometheus (.ci/run does)`
  )
}

/** The block of the runbook with this name, as it stands there. */
export function runbookFile(name: string): string {
  const [block, ...more] = blocksOf(readFileSync(RUNBOOK, 'utf8')).filter(
    ({ rest }) => rest === name,
  )
  if (block === undefined || more.length > 0) throw new Error(`RUNBOOK.md has no one block ${name}`)
  return block.text
}

/** A directory with the runbook's files and the token, removed at the end of `t`. */
export function writeFiles(t: Test, token: string, config = runbookFile(CONFIG_FILE)): string {
  const directory = mkdtempSync(join(tmpdir(), 'fleetloop-prometheus-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, CONFIG_FILE), config)
  writeFileSync(join(directory, TOKEN_FILE), token)
  return directory
}

/** Scrapes as the files in `directory` say; stopped at the end of `t`. Gives its origin. */
export async function startPrometheus(t: Test, directory: string): Promise<string> {
  for (let tries = 1; ; tries += 1) {
    const address = `127.0.0.1:${await freePort()}`
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(directory, CONFIG_FILE)}`,
        `--storage.tsdb.path=${join(directory, 'tsdb')}`,
        `--web.listen-address=${address}`,
      ],
      { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] },
    )
    // Where the test itself breaks, no teardown runs.
    const kill = () => child.kill('SIGKILL')
    process.once('exit', kill)
    child.once('exit', () => process.off('exit', kill))
    t.teardown(() => stop(child))
    const said = await notesUntilReady(child)
    if (said === 'ready') return `http://${address}`
    if (tries === PORT_TRIES || !said.includes('address already in use')) {
      throw new Error(`prometheus does not start:\n${said}`)
    }
  }
}

/** `ready`, or all that it said before it ended. */
async function notesUntilReady(child: ChildProcess): Promise<string> {
  let text = ''
  const ready = new Promise<string>((resolve) => {
    child.stderr?.setEncoding('utf8').on('data', (more: string) => {
      text += more
      if (text.includes('Server is ready to receive web requests')) resolve('ready')
    })
  })
  return Promise.race([ready, once(child, 'close').then(() => text)])
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  await exited
}

async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // of a server that listens on TCP
  server.close()
  await once(server, 'close')
  return port
}
