/** Which test files there are, and how one is run: as a process of its own, in the root of the project. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const DIRECTORY = 'build/test'

/** Those of ten seconds and more. */
const LONGEST = [
  'drills/standby',
  'drills/fleets',
  'drills/failpoints',
  'process/database-trouble',
  'operations/limits',
  'process/unfit-database',
  'drills/attacks',
  'process/shutdown',
  'process/stdout',
  'http/lifecycle',
  'drills/outages',
  'process/shutdown-transfers',
  'operations/why',
  'enrollment/recovery',
  'heartbeats/replicas',
  'drills/fuzz',
  'db/pool',
  'events/standbys',
  'process/parcel',
  'events/servers',
  'process/start',
  'apks/package-tools',
  'telemetry/prometheus',
  'security/hostile',
  'drills/previous-release',
  'drills/apk',
  'docs/scale',
  'process/bad-configuration',
  'process/demo',
  'drills/hostile-fcm',
  'apks/package',
  'push/fcm-table',
  'heartbeats/order',
  'heartbeats/group',
  'push/dispatcher',
  'commands/verdicts',
  'db/plans',
  'http/pipelining',
  'apks/fleet',
  'events/service',
  'http/edge',
  'db/servers',
  'sim/simulate',
  'http/request-lines',
  'push/dispatcher-pause',
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
