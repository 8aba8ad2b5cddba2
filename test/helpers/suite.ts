/**
 * Every test file given, or else all of them, as a child process of its own, a few at a time; TAP on stdout. tap's own
 * runner would do the same, but has each file, and each process that a file starts, load its plugins (mocks, TypeScript,
 * coverage), which none of ours uses, and which take time and make a service's stdout another one.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

/** One more than the machines have cores: tests wait as much as they compute. */
const JOBS = 3
/** Of one file. */
const TIMEOUT_MS = 120_000
/** NODE_OPTIONS is how tap has whatever it starts load its plugins. */
const NODE = [
  'env',
  ...['-u', 'NODE_OPTIONS', `TAP_TIMEOUT=${TIMEOUT_MS / 1_000}`, process.execPath],
  ...['--enable-source-maps', '--import=./build/test/helpers/searched-children.js'],
] as const
const DIRECTORY = 'build/test'

const given = process.argv.slice(2)
const all = readdirSync(DIRECTORY, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.js'))
  .map((name) => join(DIRECTORY, name))
const files = given.length > 0 ? given : all.sort()

t.jobs = JOBS
t.setTimeout(0)
t.plan(files.length)
for (const file of files) {
  t.spawn(NODE[0], [...NODE.slice(1), file], { buffered: true, timeout: TIMEOUT_MS }, file)
}
