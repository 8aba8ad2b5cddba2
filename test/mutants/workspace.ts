/** A copy of the project in a temporary directory, where one file at a time is changed and tests are run. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { type Cluster, clusterEnv } from '../runner/cluster.ts'
import { testCommand } from '../runner/test-files.ts'
import { type Coverage, readCoverage } from './coverage.ts'
import { compiledPath } from './sources.ts'

/** Not copied; node_modules is linked. */
const LEFT_OUT = /^(?:node_modules|\.git|\.tap|data|dist.*|build\..*|.*\.tgz)$/
/** All of src without types and names that nobody uses. */
const COMPILE_MS = 120_000
/** What is kept of a test's output: its first failure stands near the end, since it ends there. */
const KEPT_CHARS = 200_000

export interface Ran {
  readonly isOk: boolean
  readonly ms: number
  /** The title of each test that failed, with those around it; or that the time was over. */
  readonly failures: readonly string[]
  readonly isLate: boolean
}

export interface Workspace {
  /** Writes the file, and compiles where it is TypeScript; false where that is refused. */
  change(file: string, text: string): Promise<boolean>
  /** All is as it was copied. */
  restore(): void
  /** Ends with the first failure. */
  run(test: string, timeoutMs: number): Promise<Ran>
  /** To its end, on a database that is made by the sql/ of the copy. */
  runWhole(test: string, timeoutMs: number): Promise<Ran>
  measure(test: string, timeoutMs: number): Promise<Ran & { readonly coverage: Coverage }>
  remove(): void
}

/** `cluster` is for the tests; `over` ends what runs. */
export function copyProject(root: string, cluster: Cluster, over: AbortSignal): Workspace {
  const dir = mkdtempSync(join(tmpdir(), 'fleetloop-mutant-'))
  const filter = (path: string) => !LEFT_OUT.test(relative(root, path))
  cpSync(root, dir, { recursive: true, filter })
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'))
  const changedFiles = new Map<string, Buffer>()

  function keep(file: string): void {
    if (!changedFiles.has(file)) changedFiles.set(file, readFileSync(join(dir, file)))
  }

  async function ran(
    [command, ...args]: readonly [string, ...string[]],
    timeoutMs: number,
    more: Readonly<Record<string, string>>,
  ): Promise<Ran> {
    const startedAtMs = performance.now()
    const full = { ...process.env, ...more }
    const ended = await spawned(command, args, { cwd: dir, env: full, timeoutMs, over })
    const ms = Math.round(performance.now() - startedAtMs)
    if (ended.code === 0) return { isOk: true, ms, failures: [], isLate: false }
    const late = ended.isLate ? [`no end within ${timeoutMs} ms`] : []
    return {
      isOk: false,
      ms,
      failures: [...late, ...failuresIn(ended.output)],
      isLate: ended.isLate,
    }
  }

  const run = (test: string, timeoutMs: number, more: Readonly<Record<string, string>> = {}) =>
    ran([...testCommand(timeoutMs), test], timeoutMs, {
      ...clusterEnv(cluster),
      TAP_BAIL: '1',
      ...more,
    })

  return {
    async change(file, text) {
      keep(file)
      writeFileSync(join(dir, file), text)
      if (!file.endsWith('.ts')) return true
      keep(compiledPath(file))
      const tsc = join('node_modules', 'typescript', 'bin', 'tsc')
      const args = [tsc, '-p', 'tsconfig.build.json', '--noEmitOnError']
      const places = ['--rootDir', '.', '--outDir', 'build']
      const all = [...args, ...places]
      const options = { cwd: dir, env: process.env, timeoutMs: COMPILE_MS, over }
      return (await spawned(process.execPath, all, options)).code === 0
    },
    restore() {
      for (const [file, bytes] of changedFiles) writeFileSync(join(dir, file), bytes)
      changedFiles.clear()
    },
    run: (test, timeoutMs) => run(test, timeoutMs),
    runWhole(test, timeoutMs) {
      const command = [process.execPath, 'build/test/runner/main.js', test] as const
      return ran(command, timeoutMs, { TEST_DATABASE_URL: cluster.url })
    },
    async measure(test, timeoutMs) {
      const coverageDir = join(dir, 'coverage')
      mkdirSync(coverageDir)
      try {
        const outcome = await run(test, timeoutMs, { NODE_V8_COVERAGE: coverageDir })
        return { ...outcome, coverage: readCoverage(coverageDir, dir) }
      } finally {
        rmSync(coverageDir, { recursive: true, force: true })
      }
    },
    remove: () => rmSync(dir, { recursive: true, force: true }),
  }
}

interface SpawnOptions {
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
  readonly timeoutMs: number
  readonly over: AbortSignal
}

/** In a process group of its own, of which nothing is left afterwards. */
async function spawned(command: string, args: readonly string[], options: SpawnOptions) {
  const { cwd, env, timeoutMs, over } = options
  const child = spawn(command, args, {
    cwd,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const pipe of [child.stdout, child.stderr]) {
    pipe.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-KEPT_CHARS)
    })
  }
  let isLate = false
  const end = () => kill(child.pid)
  const timer = setTimeout(() => {
    isLate = true
    end()
  }, timeoutMs)
  if (over.aborted) end()
  else over.addEventListener('abort', end)
  const [code] = await once(child, 'exit')
  clearTimeout(timer)
  over.removeEventListener('abort', end)
  end() // what it left
  return { code, output, isLate }
}

function kill(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // none of them is left
  }
}

/** Out of TAP, which indents a test by its depth. */
function failuresIn(output: string): readonly string[] {
  const failures: string[] = []
  const titles: string[] = []
  for (const line of output.split('\n')) {
    const [, space = '', title] = /^( *)# Subtest: (.*)$/.exec(line) ?? []
    if (title !== undefined) titles.splice(space.length / 4, Number.POSITIVE_INFINITY, title)
    const [, indent = '', failed] = /^( *)not ok \d+ - (?!.*# (?:TODO|SKIP))(.*)$/.exec(line) ?? []
    const [, broke] = /^ *Bail out! (.*)$/.exec(line) ?? []
    if (failed !== undefined) {
      const around = titles.slice(0, indent.length / 4)
      failures.push([...around, failed.replace(/ # time=.*/, '')].join(' > '))
    } else if (broke !== undefined && failures.length === 0) {
      failures.push([...titles, broke].join(' > '))
    }
  }
  if (failures.length > 0) return failures
  return [output.trim().split('\n').at(-1)?.slice(0, 150) ?? '']
}
