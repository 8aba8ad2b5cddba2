/** An earlier release of this service, built from this repository's history. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export interface Release {
  readonly commit: string
  readonly main: URL
  /** Numbers of its newest migration and of ours. */
  readonly schema: number
  readonly ourSchema: number
}

const ROOT = dirname(fileURLToPath(import.meta.resolve('#package.json')))
const BUILT_FROM = [
  'src',
  'sql',
  'openapi.json',
  'package.json',
  'tsconfig.json',
  'tsconfig.build.json',
]
/** Far above the size of an archive. */
const MAX_ARCHIVE_BYTES = 64 * 1024 ** 2

/**
 * Builds `commit` in `dir`, which it creates, with this checkout's dependencies. Default: the parent of the commit
 * that added the newest migration. Throws without that history.
 */
export function buildRelease(dir: string, commit = ''): Release {
  const found =
    commit === '' ? previousRelease() : git('rev-parse', '--verify', `${commit}^{commit}`)
  mkdirSync(dir)
  const archive = execFileSync('git', ['-C', ROOT, 'archive', found, ...BUILT_FROM], {
    maxBuffer: MAX_ARCHIVE_BYTES,
  })
  execFileSync('tar', ['-x', '-C', dir], { input: archive })
  symlinkSync(join(ROOT, 'node_modules'), join(dir, 'node_modules'))
  const tsc = join(ROOT, 'node_modules/.bin/tsc')
  execFileSync(tsc, ['-p', 'tsconfig.build.json'], { cwd: dir, stdio: 'inherit' })
  return {
    commit: found,
    main: pathToFileURL(join(dir, 'dist/main.js')),
    schema: migrationsIn(dir),
    ourSchema: migrationsIn(ROOT),
  }
}

/** Why there is no earlier release to build; false: there is one. */
export function missingHistory(): string | false {
  try {
    previousRelease()
    return false
  } catch {
    return 'no history of this repository here'
  }
}

function previousRelease(): string {
  const newest = git('log', '-1', '--format=%H', '--diff-filter=A', '--', 'sql')
  return git('rev-parse', '--verify', `${newest}^`)
}

function migrationsIn(dir: string): number {
  return readdirSync(join(dir, 'sql')).filter((name) => name.endsWith('.sql')).length
}

function git(...args: string[]): string {
  return execFileSync('git', ['-C', ROOT, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'], // the error includes its output
  }).trim()
}
