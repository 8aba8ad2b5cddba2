/** Reads single variables of the environment into typed values and gathers every fault; config.ts composes them. */
import { createPrivateKey } from 'node:crypto'
import { BlockList, isIP } from 'node:net'
import type { ServiceAccount } from './config-types.ts'

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

type Env = Readonly<Record<string, string | undefined>>
type IntegerName = keyof typeof INTEGERS
type FlagName = keyof typeof FLAGS
export type Name = (typeof TEXTS)[number] | IntegerName | FlagName

const GOOGLE_TOKEN_URI = 'https://oauth2.googleapis.com/token'

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
    this.#faults.push({ name, text })
  }

  /** In production there is no default for it. */
  missing(name: Name, example: string): void {
    if (this.#faults.some((fault) => fault.name === name)) return
    this.fault(name, `missing, and NODE_ENV is production; give ${example}`)
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
    const value = this.#env[name] || undefined
    const path = this.#env[`${name}_FILE`] || undefined
    if (path === undefined) return value
    if (value === undefined) return this.#file(name, `${name}_FILE`, path)
    this.fault(name, `both ${name} and ${name}_FILE are given; give one of them`)
    return value
  }

  integer(name: IntegerName, fallback: number = INTEGERS[name][0]): number {
    const [, min, max] = INTEGERS[name]
    const text = this.text(name)
    if (text === undefined) return fallback
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= min && value <= max) return value
    const rule = `a whole number from ${min} to ${max}, such as ${fallback}`
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
    this.fault(name, `${shown(text)} is not known; give ${choices.join(' or ')}`)
    return fallback
  }

  matching(name: Name, pattern: RegExp, fallback: string): string {
    const text = this.text(name) ?? fallback
    if (!pattern.test(text)) this.fault(name, `${shown(text)} does not match ${pattern.source}`)
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
      this.fault(name, `${what}give ${rule}`)
    }
    return text.replace(/\/+$/, '')
  }

  /** The Google service account that may push, from either variable; null where none is given. */
  serviceAccount(): ServiceAccount | null {
    const path = this.text('GOOGLE_APPLICATION_CREDENTIALS')
    const inline = this.text('FIREBASE_SERVICE_ACCOUNT_JSON')
    const name = path ? 'GOOGLE_APPLICATION_CREDENTIALS' : 'FIREBASE_SERVICE_ACCOUNT_JSON'
    if (path && inline) this.fault(name, 'FIREBASE_SERVICE_ACCOUNT_JSON is given too; give one')
    const json = path === undefined ? inline : this.#file(name, name, path)
    if (json === undefined) return null
    // A checked boundary: Object() makes whatever JSON.parse gives an object, its fields stay unknown.
    const fields = Object(attempt(() => JSON.parse(json))) as Readonly<Record<string, unknown>>
    const field = (key: string, pattern: RegExp, fallback?: string): string => {
      const value = fields[key] ?? fallback
      if (typeof value === 'string' && pattern.test(value)) return value
      this.fault(name, `${key} of the service account is missing or unusable; give Google's JSON`)
      return ''
    }
    const privateKey = field('private_key', /^/).replaceAll('\\n', '\n')
    if (attempt(() => createPrivateKey(privateKey))?.asymmetricKeyType !== 'rsa') {
      this.fault(name, 'private_key of the service account is no RSA key in PEM')
    }
    return {
      projectId: field('project_id', /^[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}$/),
      clientEmail: field('client_email', /^[^\s@]+@[^\s@]+$/),
      privateKey,
      tokenUri: this.httpsUrl(name, field('token_uri', /^/, GOOGLE_TOKEN_URI), 'token_uri: '),
    }
  }

  /** The content of the file, without the newlines at its end. The message does not repeat the path. */
  #file(name: Name, variable: string, path: string): string | undefined {
    const content = this.file(path)?.replace(/[\r\n]+$/, '')
    if (content) return content
    const what = content === undefined ? 'cannot be read' : 'is empty'
    this.fault(name, `the file that ${variable} names ${what}; give the path of a filled one`)
    return undefined
  }
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
