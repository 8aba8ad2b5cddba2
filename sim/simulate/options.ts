/** The command line of `npm run simulate`. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

export interface SimulationOptions {
  /** Such as `http://127.0.0.1:8080`, without a path. */
  readonly origin: string
  readonly adminToken: string
  readonly adminHmacSecret: string | null
  readonly devices: number
  /** Prefix of the aliases: `<prefix>-0001` and so on. */
  readonly aliasPrefix: string
  /** After enrollment. */
  readonly minutes: number
  /** Ends the run early, once every phone has so many heartbeats acknowledged and every command is settled. */
  readonly heartbeats: number | null
  readonly intervalS: number
  readonly commandsPerMinute: number
  readonly maxCommands: number
  readonly actions: readonly string[]
  readonly commandTtlS: number
  /** Shares of the commands, 0 to 1. */
  readonly lateShare: number
  readonly twiceShare: number
  readonly neverShare: number
  /** Maximum delay of a late result, which is random. */
  readonly lateByS: number
  /** Shares of the alarms and of the phones, 0 to 1. */
  readonly parallelDrains: number
  readonly apkShare: number
  readonly signsResults: boolean
  /** How long to wait for the service. */
  readonly waitS: number
}

export interface CommandLine extends SimulationOptions {
  /** null: no fake FCM. */
  readonly fcmPort: number | null
  readonly fcmAccountPath: string
  readonly journalPath: string | null
}

/** `message` is for the person at the terminal. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export const USAGE = `npm run simulate -- [options]      phones with the fielded agent's habits against a running service

  --url URL                  the service (http://127.0.0.1:8080)
  --admin-token-file FILE    scopes enroll, command and read; else ADMIN_TOKEN of the environment, else data/admin-token
  --devices N                phones (10)
  --minutes M                how long they live; decimals are fine (1; with --heartbeats 60)
  --heartbeats K             ends before, once each phone has had K heartbeats acknowledged and all commands are settled
  --interval S               seconds between a phone's heartbeats (600); the first comes after a random part of it
  --commands-per-minute C    (a tenth of the phones, at least 6; 0: none)
  --commands N               no more than N commands
  --actions A,B              (ping,launch_app,update,ring,restart_app,list_packages); update fetches the newest APK
  --command-ttl S            30 to 604800 (twice the interval, at least 60)
  --late P --twice P --never P   parts of the commands whose result comes late, twice or never (0.1 0.05 0.02)
  --late-by S                a late result waits a random part of it (60)
  --parallel-drains P        part of the alarms that start two drains at once (0.1)
  --apk-share P              part of the phones that fetch the APK once enrolled, with their enrollment token (0)
  --sign-results             results carry X-Signature
  --fcm PORT                 starts a stand-in for FCM on 127.0.0.1:PORT and prints the environment that the service needs
  --fcm-account FILE         its service account, made where it is missing (data/sim-fcm-account.json)
  --alias-prefix TEXT        the phones are called TEXT-0001 … (sim-<run id>); fresh for each run
  --journal FILE             appends what was acknowledged, one JSON line each: heartbeats, commands, results
  --wait S                   how long to wait for the service to be ready (30)

Where ADMIN_HMAC_SECRET is set, it signs admin requests. Ctrl-C ends the run with its summary, a second one at once. Progress and the summary go to stderr, JSON to stdout.
Exit code 0: nothing lost, nothing run twice, no phone wiped. 1: otherwise, or the run could not begin. 64: usage.
`

const STRING = { type: 'string' } as const
const OPTIONS = {
  url: STRING,
  'admin-token-file': STRING,
  devices: STRING,
  minutes: STRING,
  heartbeats: STRING,
  interval: STRING,
  'commands-per-minute': STRING,
  commands: STRING,
  actions: STRING,
  'command-ttl': STRING,
  late: STRING,
  twice: STRING,
  never: STRING,
  'late-by': STRING,
  'parallel-drains': STRING,
  'apk-share': STRING,
  'sign-results': { type: 'boolean' },
  fcm: STRING,
  'fcm-account': STRING,
  'alias-prefix': STRING,
  journal: STRING,
  wait: STRING,
  help: { type: 'boolean' },
} as const
const TOKEN_FILE = 'data/admin-token'
const ALIAS_PREFIX = /^[A-Za-z0-9][A-Za-z0-9._-]{0,55}$/
const MAX_TTL_S = 604_800

type Environment = Readonly<Record<string, string | undefined>>

/** 'help' if requested. `runId` makes the aliases unique. Throws UsageError. */
export function readCommandLine(
  args: readonly string[],
  env: Environment,
  runId: string,
): CommandLine | 'help' {
  const values = parse(args)
  if (values.help === true) return 'help'
  const number = (name: NumberName, fallback: number, min: number, max: number) =>
    readNumber(name, values[name], { fallback, min, max, isWhole: false })
  const count = (name: NumberName, fallback: number, min: number, max: number) =>
    readNumber(name, values[name], { fallback, min, max, isWhole: true })
  const share = (name: NumberName, fallback: number) => number(name, fallback, 0, 1)

  const devices = count('devices', 10, 1, 100_000)
  const heartbeats = values.heartbeats === undefined ? null : count('heartbeats', 1, 1, 1e6)
  const intervalS = number('interval', 600, 0.05, 86_400)
  const ttlS = Math.min(Math.max(60, Math.ceil(2 * intervalS)), MAX_TTL_S)
  const options = {
    origin: readOrigin(values.url ?? 'http://127.0.0.1:8080'),
    adminHmacSecret: env['ADMIN_HMAC_SECRET'] ?? null,
    devices,
    aliasPrefix: readPrefix(values['alias-prefix'] ?? `sim-${runId}`),
    minutes: number('minutes', heartbeats === null ? 1 : 60, 0, 525_600),
    heartbeats,
    intervalS,
    commandsPerMinute: number('commands-per-minute', Math.max(6, devices / 10), 0, 60_000),
    maxCommands: values.commands === undefined ? Infinity : count('commands', 0, 0, 1e9),
    actions: (values.actions ?? 'ping,launch_app,update,ring,restart_app,list_packages').split(','),
    commandTtlS: count('command-ttl', ttlS, 30, MAX_TTL_S),
    lateShare: share('late', 0.1),
    twiceShare: share('twice', 0.05),
    neverShare: share('never', 0.02),
    lateByS: number('late-by', 60, 0, 86_400),
    parallelDrains: share('parallel-drains', 0.1),
    apkShare: share('apk-share', 0),
    signsResults: values['sign-results'] === true,
    waitS: number('wait', 30, 0, 86_400),
    fcmPort: values.fcm === undefined ? null : count('fcm', 0, 0, 65_535),
    fcmAccountPath: values['fcm-account'] ?? 'data/sim-fcm-account.json',
    journalPath: values.journal ?? null,
  }
  if (options.lateShare + options.twiceShare + options.neverShare > 1) {
    throw new UsageError('--late, --twice and --never are more than all commands together')
  }
  if (options.maxCommands !== Infinity && options.commandsPerMinute === 0) {
    throw new UsageError('--commands needs --commands-per-minute above 0')
  }
  // Last, so that other errors are reported first.
  return { ...options, adminToken: readAdminToken(values, env) }
}

type Values = ReturnType<typeof parse>
type NumberName = Exclude<keyof Values, 'help' | 'sign-results'>

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

function readNumber(
  name: string,
  text: string | undefined,
  range: {
    readonly fallback: number
    readonly min: number
    readonly max: number
    readonly isWhole: boolean
  },
): number {
  if (text === undefined) return range.fallback
  const value = text.trim() === '' ? Number.NaN : Number(text)
  const isKind = range.isWhole ? Number.isInteger(value) : Number.isFinite(value)
  if (isKind && value >= range.min && value <= range.max) return value
  const kind = range.isWhole ? 'a whole number' : 'a number'
  throw new UsageError(`--${name} is ${kind} from ${range.min} to ${range.max}, not "${text}"`)
}

function readOrigin(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  const isWeb = url?.protocol === 'http:' || url?.protocol === 'https:'
  if (url === null || !isWeb || url.pathname !== '/' || url.search !== '') {
    throw new UsageError(`--url is http://host:port or https://host, without a path, not "${text}"`)
  }
  const isLoopback = /^(localhost|\[::1\]|127(\.\d+){3})$/.test(url.hostname)
  if (url.protocol === 'http:' && !isLoopback) {
    throw new UsageError(`--url: tokens would go to ${url.origin} in clear; give https://`)
  }
  return url.origin
}

function readPrefix(text: string): string {
  if (ALIAS_PREFIX.test(text)) return text
  throw new UsageError(
    `--alias-prefix has 1 to 56 of A-Z a-z 0-9 . _ - and begins with one of the first three, not "${text}"`,
  )
}

function readAdminToken(values: Values, env: Environment): string {
  const given = env['ADMIN_TOKEN']
  if (given !== undefined && values['admin-token-file'] === undefined) return given
  const path = values['admin-token-file'] ?? TOKEN_FILE
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    throw new UsageError(
      `no admin token: give ADMIN_TOKEN or --admin-token-file (${path} cannot be read)`,
    )
  }
}
