/** Reads single variables of the environment into typed values and gathers every fault; config.ts composes them. */
import { BlockList, isIP } from 'node:net'
import { errorCode } from '../lib/error-text.ts'
import { nearest } from '../lib/nearest.ts'

/** Whole numbers: default, least, greatest (both inclusive). Units end the names. */
const INTEGERS = {
  PORT: [8080, 0, 65_535],
  DATABASE_POOL_MAX: [10, 5, 1000],
  FCM_TTL_S: [300, 0, 2_419_200],
  FCM_TIMEOUT_MS: [10_000, 10, 15_000],
  FCM_RETRY_BASE_MS: [10_000, 1, 3_600_000],
  FCM_MAX_IN_FLIGHT: [64, 1, 1000],
  HEARTBEAT_DEDUP_WINDOW_S: [10, 0, 86_400],
  HEARTBEAT_INTERVAL_S: [300, 1, 86_400],
  HEARTBEAT_RETENTION_DAYS: [7, 1, 3650],
  COMMAND_RETENTION_DAYS: [90, 1, 3650],
  AUDIT_RETENTION_DAYS: [400, 1, 3650],
  DOWNLOAD_RETENTION_DAYS: [90, 1, 3650],
  TOKEN_RETENTION_DAYS: [90, 1, 3650],
  DEVICE_RETENTION_DAYS: [90, 1, 3650],
  DEVICE_OFFLINE_S: [1500, 1, 31_536_000],
  APK_MAX_BYTES: [200 * 1024 ** 2, 1024, 10 * 1024 ** 3],
  APK_CACHE_BYTES: [2 * 1024 ** 3, 1024, 1024 ** 4],
  APK_MAX_DOWNLOADS: [256, 1, 100_000],
  APK_MAX_DOWNLOADS_PER_TOKEN: [3, 1, 100_000],
  APK_MAX_DOWNLOADS_PER_SUBNET: [64, 1, 100_000],
  LOG_BUFFER_BYTES: [4 * 1024 ** 2, 64 * 1024, 1024 ** 3],
  RATE_LIMIT_TOKENS_PER_HOUR: [200, 1, 1_000_000],
  RATE_LIMIT_APK_PER_TOKEN_PER_MIN: [10, 1, 1_000_000],
  RATE_LIMIT_APK_PER_SUBNET_PER_MIN: [600, 1, 1_000_000],
  SHUTDOWN_DRAIN_MS: [5000, 0, 600_000],
  SHUTDOWN_GRACE_MS: [15_000, 100, 600_000],
} as const

const FLAGS = {
  DATABASE_PREPARED: true,
  ALLOW_UNSAFE_DATABASE: false,
  ALLOW_PLAINTEXT_DATABASE: false,
  REQUIRE_SIGNED_RESULTS: false,
  FCM_SELF_TEST: false,
  METRICS_ENABLED: true,
  REQUIRE_HTTPS: true,
} as const

// biome-ignore format: one row a topic
const TEXTS = [
  'NODE_ENV', 'HOST', 'DATABASE_URL', 'MIGRATE_DATABASE_URL', 'DATA_DIR', 'ADMIN_TOKENS', 'HMAC_SECRET',
  'ADMIN_HMAC_SECRET', 'GOOGLE_APPLICATION_CREDENTIALS', 'FIREBASE_SERVICE_ACCOUNT_JSON', 'FCM_BASE_URL',
  'COMMAND_ACTIONS', 'APK_DEFAULT_BUILD_TYPE', 'LOG_LEVEL', 'METRICS_STATUS', 'TRUSTED_PROXIES', 'PLAINTEXT_OK_CIDRS',
] as const

/** Every variable that is read; each also with `_FILE` appended. */
export const CONFIG_VARIABLES: readonly string[] = [
  ...TEXTS,
  ...Object.keys(INTEGERS),
  ...Object.keys(FLAGS),
]

/** What ends a name, in words. */
const UNITS: Readonly<Record<string, string>> = {
  _S: ' of seconds',
  _MS: ' of milliseconds',
  _DAYS: ' of days',
  _BYTES: ' of bytes',
}

type Env = Readonly<Record<string, string | undefined>>
type IntegerName = keyof typeof INTEGERS
type FlagName = keyof typeof FLAGS
export type Name = (typeof TEXTS)[number] | IntegerName | FlagName

/** The environment, read variable by variable. A fault is noted, and the default stands in for the value. */
export class EnvReader {
  readonly #env: Env
  readonly #readFile: (path: string) => string
  readonly #faults: { readonly name: Name; readonly text: string }[] = []

  constructor(env: Env, readFile: (path: string) => string) {
    this.#env = env
    this.#readFile = readFile
  }

  get faults(): readonly string[] {
    return this.#faults.map(({ name, text }) => `${name}: ${text}`)
  }

  /** `text` never holds a secret's value, nor what may be one put into the wrong place. */
  fault(name: Name, text: string): void {
    const isQuoted = /^(["']).*\1$/s.test(this.#env[name] ?? '')
    const hint = isQuoted ? '. It stands in quotes, which count here: leave them out' : ''
    this.#faults.push({ name, text: `${text}${hint}` })
  }

  /** Where there is no default for it. */
  missing(name: Name, why: string, example: string): void {
    if (this.#faults.some((fault) => fault.name === name)) return
    this.fault(name, `missing, and ${why}; give ${example}`)
  }

  /** Whether a variable that is not ours has a value. */
  isSet(variable: string): boolean {
    return Boolean(this.#env[variable])
  }

  /** undefined where it cannot be read. */
  file(path: string): string | undefined {
    return attempt(() => this.#readFile(path))
  }

  /** undefined where neither the variable nor its `_FILE` is given; an empty one counts as not given. */
  text(name: Name): string | undefined {
    const value = ended(this.#env[name] ?? '') || undefined
    const path = ended(this.#env[`${name}_FILE`] ?? '') || undefined
    if (path === undefined) return value
    if (value === undefined) return this.content(name, path, `${name}_FILE names`)
    this.fault(name, `both ${name} and ${name}_FILE are given; unset one of them`)
    return value
  }

  integer(name: IntegerName, fallback: number = INTEGERS[name][0]): number {
    const [, min, max] = INTEGERS[name]
    const text = this.text(name)
    if (text === undefined) return fallback
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= min && value <= max) return value
    const unit = UNITS[/_[A-Z]+$/.exec(name)?.[0] ?? ''] ?? ''
    const rule = `a whole number${unit} from ${min} to ${max}, such as ${fallback}`
    this.fault(name, `${shown(text)} cannot be meant; give ${rule}`)
    return fallback
  }

  flag(name: FlagName): boolean {
    return this.choice(name, ['true', 'false'], FLAGS[name] ? 'true' : 'false') === 'true'
  }

  choice<const T extends string>(name: Name, choices: readonly T[], fallback: T): T {
    const text = this.text(name)
    if (text === undefined) return fallback
    const found = choices.find((choice) => choice === text)
    if (found !== undefined) return found
    const meant = nearest(text, choices)
    const question = meant === undefined ? '' : ` (is ${meant} meant?)`
    this.fault(name, `${shown(text)} is not known${question}; give ${choices.join(' or ')}`)
    return fallback
  }

  /** `rule` says in words what `pattern` takes. */
  matching(name: Name, pattern: RegExp, rule: string, fallback: string): string {
    const text = this.text(name) ?? fallback
    if (!pattern.test(text)) this.fault(name, `${shown(text)} cannot be meant; give ${rule}`)
    return text
  }

  /** Comma-separated, spaces around a part do not count. */
  list(name: Name): string[] {
    const text = this.text(name)
    return text === undefined ? [] : text.split(',').map((part) => part.trim())
  }

  /** CIDRs; a bare address means itself. */
  cidrs(name: Name): string[] {
    const parts = this.list(name)
    const wrong = parts.filter((part) => !isCidr(part)).map(shown)
    if (wrong.length > 0) this.fault(name, `${wrong.join(', ')}: give CIDRs, such as 10.0.0.0/8`)
    return parts
  }

  /** An https URL without query, or http to loopback; without the slash at its end. */
  httpsUrl(name: Name, text: string, what = ''): string {
    const url = attempt(() => new URL(text))
    const isLoopback = /^(localhost|\[::1\]|127(\.\d+){3})$/.test(url?.hostname ?? '')
    const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopback)
    if (!isSafe || /[?#@]/.test(text)) {
      const rule = 'an https:// URL without user, query or fragment (http:// to loopback only)'
      // Before an @ may stand a password.
      const value = text.includes('@') ? 'it' : shown(text)
      this.fault(name, `${what}${value} cannot be meant; give ${rule}`)
    }
    return text.replace(/\/+$/, '')
  }

  /** Of the file, without a byte order mark and the newlines at its end; `which` ends in a verb, such as `X_FILE names`. */
  content(name: Name, path: string, which: string): string | undefined {
    const file = `${which} ${shownPath(path)}`
    try {
      const content = ended(this.#readFile(path).replace(/^\ufeff/, ''))
      if (content !== '') return content
      this.fault(name, `${file}, which is empty; give the path of a filled one`)
    } catch (error) {
      const why = errorCode(error) ?? 'it cannot be read'
      this.fault(
        name,
        `${file}, which cannot be read (${why}); give the path of a file that this user may read`,
      )
    }
    return undefined
  }
}

/** Without newlines at its end, which files and scripts leave there. */
function ended(text: string): string {
  return text.replace(/[\r\n]+$/, '')
}

/** Quoted; `a file` where it is more likely the secret itself, in the place of a path. */
function shownPath(path: string): string {
  const words = path.split(/[/._-]/)
  const isRandom = words.some((word) => word.length >= 8 && /\d/.test(word) && /[a-z]/i.test(word))
  return /^\.{0,2}\//.test(path) && !isRandom ? shown(path) : 'a file'
}

/** For a message: quoted and short. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)
}

function isCidr(text: string): boolean {
  const [, address = '', prefix] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
  const bits = Number(prefix ?? 32)
  return attempt(() => new BlockList().addSubnet(address, bits, family) ?? true) ?? false
}

/** undefined where `work` throws. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch {
    return undefined
  }
}
