/** The README's tour, typed in verbatim: a copy of the project, one bash, and the expected output. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, readFileSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { tempDirectory } from '../../helpers/directory.ts'
import { type Block, blocksOf, sectionOf } from '../markdown.ts'
import { normalizer } from './volatile.ts'

export const ROOT = dirname(fileURLToPath(import.meta.resolve('#package.json')))
export const README = readFileSync(join(ROOT, 'README.md'), 'utf8')
/** What a fresh clone holds that the tour needs; tests are left out. */
const FOLDERS = ['scripts', 'src', 'sql', 'sim', 'testkit']
const SOURCES = [...FOLDERS, 'package.json', 'openapi.json', 'tsconfig.json', 'tsconfig.build.json']
const DEADLINE_MS = 60_000

const missing = ['bash', 'curl', 'jq'].filter((tool) => spawnSync(tool, ['--version']).error)
export const missingTools = missing.length > 0 && `needs ${missing.join(', ')}`

interface Step {
  readonly command: Block
  /** What the README says that it prints. */
  readonly output: string
}

/** Each command with the output block behind it, if that follows. The first starts the service. */
export function readTour(): { readonly start: Step; readonly steps: readonly Step[] } {
  const blocks = blocksOf(sectionOf(README, 'Five-minute tour'))
  const [start, ...steps] = blocks.flatMap((command, index) => {
    if (command.language !== 'sh') return []
    const next = blocks[index + 1]
    const output = next === undefined || next.language === 'sh' ? '' : next.text
    return [{ command, output }]
  })
  if (start?.command.rest !== 'start') throw new Error('the tour does not begin with a start')
  return { start, steps }
}

/** Removed at the end of `t`. `more`: besides what the tour needs. */
export function copyProject(t: Test, more: readonly string[] = []): string {
  const directory = tempDirectory(t)
  for (const name of [...SOURCES, ...more]) {
    cpSync(join(ROOT, name), join(directory, name), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
  return directory
}

/** The environment without what npm and tap add to it. */
export function readersEnv(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR } = process.env
  return { PATH, HOME, TMPDIR, ...more }
}

export interface TouredService {
  readonly origin: string
  readonly pid: number
  /** All of stderr. */
  readonly notes: string
  readonly log: () => string
  /** What Ctrl-C sends, to all of it; resolves with the exit code when it has ended. */
  interrupt(): Promise<number | null>
}

/** A bash script that starts the service with its log in fleetloop.log of `directory`; ended with `t`. */
export async function startToured(
  t: Test,
  directory: string,
  script: string,
  env: Readonly<Record<string, string>>,
): Promise<TouredService> {
  // A process group of its own, so that it can be sent what Ctrl-C sends.
  const service = spawn('bash', ['-c', script], {
    cwd: directory,
    env: readersEnv({ PORT: '0', ...env }),
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(service, 'exit')
  let notes = ''
  service.stderr.setEncoding('utf8').on('data', (text: string) => {
    notes += text
  })
  const logFile = join(directory, 'fleetloop.log')
  const log = () => (existsSync(logFile) ? readFileSync(logFile, 'utf8') : '')
  const hasEnded = () => service.exitCode !== null || service.signalCode !== null
  const pid = service.pid ?? 0
  const interrupt = async () => {
    if (!hasEnded()) process.kill(-pid, 'SIGINT')
    const [code] = await exited
    return code as number | null // 'exit' gives the code first
  }
  t.teardown(interrupt)
  const deadlineAtMs = performance.now() + DEADLINE_MS
  const origin = () => /listening on (\S+)/.exec(notes)?.[1]
  while (origin() === undefined || !log().includes('"event":"service.ready"')) {
    const isLate = performance.now() > deadlineAtMs
    if (isLate || hasEnded()) throw new Error(`it does not get ready; stderr:\n${notes}`)
    await wait(50)
  }
  return { origin: origin() ?? '', pid, notes, log, interrupt }
}

/** All of the tour but its start; compares what it prints, and gives that back. */
export function playTour(t: Test, directory: string, origin: string): string {
  const { steps } = readTour()
  const results = runAll(
    steps.map((step) => step.command.text),
    directory,
    readersEnv({ FLEETLOOP_URL: origin }),
  )
  const normalPrinted = normalizer()
  const normalExpected = normalizer()
  for (const [index, { command, output }] of steps.entries()) {
    const result = results[index]
    const title = command.text.trimEnd().split('\n').at(-1) ?? ''
    const printed = normalPrinted(result?.printed ?? '')
    const expected = normalExpected(output)
    t.same({ status: result?.status, printed }, { status: 0, printed: expected }, title)
    if (result?.status !== 0) t.comment(result?.errors ?? '')
  }
  return results.map(({ printed }) => printed).join('')
}

/** Runs the blocks in one bash; answers what each printed, and the status of its last command. */
function runAll(blocks: readonly string[], cwd: string, env: NodeJS.ProcessEnv) {
  const mark = (index: number) => `printf '\\n@@ %s %s @@\\n' ${index} "$?"\n`
  const input = blocks.map((text, index) => text + mark(index)).join('')
  const { stdout, stderr } = spawnSync('bash', [], { cwd, env, input, encoding: 'utf8' })
  const parts = stdout.split(/\n@@ \d+ (\d+) @@\n/)
  return blocks.map((_, index) => ({
    printed: parts[2 * index] ?? '',
    status: Number(parts[2 * index + 1]),
    errors: stderr,
  }))
}
