/**
 * Every test file given, or else all of them, as a child process of its own, a few at a time; TAP on stdout. tap's own
 * runner would do the same, but has each file, and each process that a file starts, load its plugins (mocks, TypeScript,
 * coverage), which none of ours uses, and which take time and make a service's stdout another one.
 */
import t from 'tap'
import { testCommand, testFiles } from './test-files.ts'

/** For two cores: tests wait more than they compute. */
const JOBS = 5
/** Of one file. */
const TIMEOUT_MS = 240_000

const given = process.argv.slice(2)
const files = given.length > 0 ? given : testFiles()
const [command, ...args] = testCommand(TIMEOUT_MS, given.length > 0)

t.jobs = JOBS
t.setTimeout(0)
t.plan(files.length)
for (const file of files) {
  t.spawn(command, [...args, file], { buffered: true, timeout: TIMEOUT_MS }, file)
}
