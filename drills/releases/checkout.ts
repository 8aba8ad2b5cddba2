/** An earlier release of this service, built from this repository's own history. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export interface Release {
  /** In full. */
  readonly commit: string
  /** For startReplica. */
  readonly main: URL
  /** Numbers of its newest migration and of ours. */
  readonly schema: number
  readonly ourSchema: number
}

const ROOT = dirname(fileURLToPath(import.meta.resolve('#package.json')))
const BUILT_FROM = ['src', 'sql', 'package.json', 'tsconfig.json', 'tsconfig.build.json']
/** Far above the size of such an archive. */
const MAX_ARCHIVE_BYTES = 64 * 1024 ** 2

/**
 * Builds `commit` under `dir`, which is made, with the dependencies of this checkout. Default: the newest commit with an
 * older schema, the parent of the one that brought the newest migration. Throws where this is no checkout with that history.
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
    stdio: ['ignore', 'pipe', 'pipe'], // what it says of a fault is in the error
  }).trim()
}
