/** Which test files there are, and how one is run: as a process of its own, in the root of the project. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const DIRECTORY = 'build/test'

/** Those of 14 s and more when five run at a time; the longest first. */
const LONGEST = [
  'process/database-trouble',
  'process/shutdown',
  'drills/fleets',
  'operations/limits',
  'drills/standby',
  'process/stdout',
  'enrollment/recovery',
  'process/shutdown-transfers',
  'process/start',
  'drills/outages',
  'telemetry/prometheus',
  'apks/package-tools',
  'db/pool',
  'drills/failpoints',
  'events/standbys',
  'operations/why',
  'heartbeats/replicas',
  'drills/hostile-fcm',
  'events/servers',
  'process/demo',
  'drills/previous-release',
  'events/service',
  'docs/scale',
  'db/migrate',
  'db/partitions',
  'heartbeats/group',
  'process/parcel',
  'drills/attacks',
  'push/fcm-table',
  'apks/package',
  'security/hostile',
  'db/plans',
  'http/lifecycle',
  'commands/verdicts',
  'process/unfit-database',
  'sim/simulate',
  'docs/readme',
  'apks/fleet',
  'docs/runbook-commands',
  'dev/embedded-postgres',
  'db/servers',
  'http/pipelining',
  'drills/apk',
]

/** Relative to the root. The longest come first, so that the run does not end with one of them alone. */
export function testFiles(): readonly string[] {
  const isTest = (name: string) => name.endsWith('.test.js')
  const all = readdirSync(DIRECTORY, { recursive: true, encoding: 'utf8' }).filter(isTest).sort()
  const longest = LONGEST.map((name) => `${name}.test.js`)
  return [...new Set([...longest, ...all])].map((name) => join(DIRECTORY, name))
}

/** A command line to which the file is added. NODE_OPTIONS is how tap has whatever it starts load its plugins. */
export function testCommand(timeoutMs: number): readonly [string, ...string[]] {
  return [
    'env',
    ...['-u', 'NODE_OPTIONS', `TAP_TIMEOUT=${timeoutMs / 1_000}`, process.execPath],
    ...['--enable-source-maps', '--import=./build/test/runner/searched-children.js'],
  ]
}
