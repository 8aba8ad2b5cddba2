/** The README's tour, typed in exactly as it stands there: a copy of the project, npm start, one bash. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { type Block, blocksOf, sectionOf } from '../helpers/markdown.ts'
import { leaksIn, rememberSecret } from '../helpers/secrets.ts'
import { normalizer } from '../helpers/volatile.ts'

const ROOT = dirname(fileURLToPath(import.meta.resolve('#package.json')))
const README = readFileSync(join(ROOT, 'README.md'), 'utf8')
/** What a fresh clone holds that the tour needs; tests are left out. */
const SOURCES = ['src', 'sql', 'sim', 'package.json', 'tsconfig.json', 'tsconfig.build.json']
const DEADLINE_MS = 60_000

const missing = ['bash', 'curl', 'jq'].filter((tool) => spawnSync(tool, ['--version']).error)

interface Step {
  readonly command: Block
  /** What the README says that it prints. */
  readonly output: string
}

/** Each command with the output block behind it, if that follows. */
function stepsOf(blocks: readonly Block[]): readonly Step[] {
  return blocks.flatMap((command, index) => {
    if (command.language !== 'sh') return []
    const next = blocks[index + 1]
    const output = next === undefined || next.language === 'sh' ? '' : next.text
    return [{ command, output }]
  })
}

function copyProject(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'fleetloop-readme-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  for (const name of SOURCES) cpSync(join(ROOT, name), join(directory, name), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
  return directory
}

/** The environment without what npm and tap add to it. */
function readersEnv(more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR } = process.env
  return { PATH, HOME, TMPDIR, ...more }
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

t.test(
  'the tour prints what the README says',
  { skip: missing.length > 0 && `needs ${missing.join(', ')}` },
  async (t) => {
    const [start, ...steps] = stepsOf(blocksOf(sectionOf(README, 'Five-minute tour')))
    if (start === undefined) throw new Error('the tour has no blocks')
    t.equal(start.command.rest, 'start')
    const directory = copyProject(t)

    // A process group of its own, so that it can be sent what Ctrl-C sends.
    const service = spawn('bash', ['-c', start.command.text], {
      cwd: directory,
      env: readersEnv({ PORT: '0' }),
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
    const interrupt = async () => {
      if (!hasEnded() && service.pid !== undefined) process.kill(-service.pid, 'SIGINT')
      await exited
    }
    t.teardown(interrupt)
    const logged = async (event: string) => {
      const deadlineAtMs = performance.now() + DEADLINE_MS
      while (!log().includes(`"event":"${event}"`)) {
        if (performance.now() > deadlineAtMs) throw new Error(`no ${event}; stderr:\n${notes}`)
        await wait(50)
      }
    }
    await logged('service.ready')
    const normalStart = normalizer()
    t.equal(normalStart(notes), normalStart(start.output), 'what the start says on stderr')

    const origin = /listening on (\S+)/.exec(notes)?.[1] ?? ''
    const env = readersEnv({ FLEETLOOP_URL: origin })
    const results = runAll(
      steps.map((step) => step.command.text),
      directory,
      env,
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

    await interrupt()
    await logged('service.stop')
    const lines = log().trimEnd().split('\n')
    t.equal(JSON.parse(lines.at(-1) ?? '').event, 'service.stop', 'Ctrl-C drains and stops')
    t.doesNotThrow(() => lines.map((line) => JSON.parse(line)), 'the log holds only JSON')

    for (const file of ['admin-token', 'hmac-secret']) {
      rememberSecret(readFileSync(join(directory, 'data', file), 'utf8').trim())
    }
    const printed = results.map((result) => result.printed).join('')
    t.not(leaksIn(printed).length, 0, 'the tour shows what the API hands out')
    for (const [, secret] of printed.matchAll(/"(?:device_token|hmac_key|token)": "([^"]+)"/g)) {
      rememberSecret(secret)
    }
    t.same(leaksIn(log()), [], 'no secret stands in the log')
  },
)

t.test('what the README names is there', async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  for (const [, script = ''] of README.matchAll(/npm run (?:-s )?([a-z]+)/g)) {
    t.ok(script in scripts, `npm run ${script}`)
  }
  for (const [, path = ''] of README.matchAll(/\]\(([^)#]+)\)/g)) {
    t.ok(readFileSync(join(ROOT, path)).length > 0, path)
  }
})
