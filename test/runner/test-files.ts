/** Which test files there are, and how one is run: as a process of its own, in the root of the project. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const DIRECTORY = 'build/test'

/** Relative to the root. */
export function testFiles(): readonly string[] {
  return readdirSync(DIRECTORY, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => join(DIRECTORY, name))
    .sort()
}

/** A command line to which the file is added. NODE_OPTIONS is how tap has whatever it starts load its plugins. */
export function testCommand(timeoutMs: number): readonly [string, ...string[]] {
  return [
    'env',
    ...['-u', 'NODE_OPTIONS', `TAP_TIMEOUT=${timeoutMs / 1_000}`, process.execPath],
    ...['--enable-source-maps', '--import=./build/test/runner/searched-children.js'],
  ]
}
