/** Which test files there are, and how one is run: as a process of its own, in the root of the project. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const DIRECTORY = 'build/test'

/** Of the files that take 11 s and more when five run at a time: so many seconds, as the TAP of a run shows them. */
const SECONDS: Readonly<Record<string, number>> = {
  'process/database-trouble': 50,
  'operations/why': 48,
  'process/shutdown': 45,
  'drills/hostile-fcm': 43,
  'heartbeats/replicas': 38,
  'docs/runbook-commands': 37,
  'process/parcel': 37,
  'process/start': 37,
  'drills/standby': 36,
  'drills/failpoints': 33,
  'operations/limits': 33,
  'process/stdout': 33,
  'push/fcm-table': 31,
  'telemetry/prometheus': 31,
  'drills/fleets': 30,
  'events/standbys': 30,
  'db/pool': 29,
  'process/unfit-database': 29,
  'security/hostile': 29,
  'drills/outages': 28,
  'events/servers': 28,
  'process/shutdown-transfers': 28,
  'apks/package': 27,
  'db/plans': 26,
  'process/demo': 26,
  'apks/package-tools': 25,
  'drills/attacks': 25,
  'commands/verdicts': 24,
  'drills/previous-release': 24,
  'enrollment/recovery': 24,
  'apks/builds': 23,
  'events/service': 23,
  'sim/simulate': 23,
  'docs/readme': 22,
  'heartbeats/group': 22,
  'drills/fuzz': 21,
  'apks/fleet': 20,
  'http/connection/pipelining': 20,
  'apks/signers': 18,
  'http/lifecycle': 18,
  'db/servers': 16,
  'docs/scale': 16,
  'drills/identity': 16,
  'operations/admin': 16,
  'commands/races': 15,
  'drills/apk': 15,
  'events/push': 14,
  'http/request-lines': 14,
  'operations/strict-admin': 14,
  'push/dispatcher': 14,
  'db/partitions': 13,
  'apks/downloads': 12,
  'db/migrate': 12,
  'dev/embedded-postgres': 12,
  'heartbeats/clocks': 12,
  'process/bad-configuration': 12,
  'process/unreachable-database': 12,
  'enrollment/lost-responses': 11,
}

/** Relative to the root. The longest come first, so that the run does not end with one of them alone. */
export function testFiles(): readonly string[] {
  const names = readdirSync(DIRECTORY, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => name.replace(/\.test\.js$/, ''))
    .sort()
  const gone = Object.keys(SECONDS).filter((name) => !names.includes(name))
  if (gone.length > 0) throw new Error(`no test files: ${gone.join(', ')}`)
  const secondsOf = (name: string) => SECONDS[name] ?? 0
  return names
    .toSorted((a, b) => secondsOf(b) - secondsOf(a))
    .map((name) => join(DIRECTORY, `${name}.test.js`))
}

/**
 * A command line to which the file is added. NODE_OPTIONS is how tap has whatever it starts load its plugins. Source maps
 * take 57 ms of the 309 that a file without tests takes: the lines of a failure are worth that where few files run.
 */
export function testCommand(timeoutMs: number, areFew = false): readonly [string, ...string[]] {
  return [
    'env',
    ...['-u', 'NODE_OPTIONS', `TAP_TIMEOUT=${timeoutMs / 1_000}`, process.execPath],
    ...(areFew ? ['--enable-source-maps'] : []),
    '--import=./build/test/runner/searched-children.js',
  ]
}
