/** Reads single variables of the environment into typed values and gathers every fault; config.ts composes them. */
import { BlockList, isIP } from 'node:net'
import { errorCode } from '../lib/error-text.ts'
import { nearest } from '../lib/nearest.ts'

/** By the last word of a name. */
const UNITS: Readonly<Record<string, string>> = {
  S: 'seconds',
  MS: 'milliseconds',
  DAYS: 'days',
  BYTES: 'bytes',
}

/** Empty for a plain number. */
export function unitOf(name: string): string {
  return UNITS[name.slice(name.lastIndexOf('_') + 1)] ?? ''
}

/** Follows a subject in the message about a value that isQuoted. */
export const QUOTED = 'stands in quotes, which count here: leave them out'

export function isQuoted(text: string): boolean {
  return /^(["']).*\1$/s.test(text)
}

type Env = Readonly<Record<string, string | undefined>>

/** The environment, read variable by variable. A fault is noted, and the default replaces the value. */
export class EnvReader {
  readonly #env: Env
  readonly #readFile: (path: string) => string
  readonly #faults: { readonly name: string; readonly text: string }[] = []

  constructor(env: Env, readFile: (path: string) => string) {
    this.#env = env
    this.#readFile = readFile
  }

  get faults(): readonly string[] {
    return this.#faults.map(({ name, text }) => `${name}: ${text}`)
  }

  /** Records a fault once, even if its setting is read twice. `text` never holds a value that may be a secret. */
  fault(name: string, text: string): void {
    const isHint = isQuoted(this.#env[name] ?? '') && !text.endsWith(QUOTED)
    const hint = isHint ? `. It ${QUOTED}` : ''
    const fault = { name, text: `${text}${hint}` }
    if (!this.#faults.some((other) => other.name === name && other.text === fault.text)) {
      this.#faults.push(fault)
    }
  }

  /** Where there is no default for it. */
  missing(name: string, why: string, example: string): void {
    if (this.#faults.some((fault) => fault.name === name)) return
    this.fault(name, `missing, and ${why}; give ${example}`)
  }

  /** A variable that is no setting of ours; undefined if it is not set or empty. */
  foreign(variable: string): string | undefined {
    return this.#env[variable] || undefined
  }

  /** undefined where it cannot be read. */
  file(path: string): string | undefined {
    return attempt(() => this.#readFile(path))
  }

  /** undefined where neither the variable nor its `_FILE` is given; an empty one counts as not given. */
  text(name: string): string | undefined {
    const value = ended(this.#env[name] ?? '') || undefined
    const path = ended(this.#env[`${name}_FILE`] ?? '') || undefined
    if (path === undefined) return value
    if (value === undefined) return this.content(name, path, `${name}_FILE names`)
    this.fault(name, `both ${name} and ${name}_FILE are given; unset one of them`)
    return value
  }

  integer(name: string, min: number, max: number, fallback: number): number {
    const text = this.text(name)
    if (text === undefined) return fallback
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= min && value <= max) return value
    const unit = unitOf(name)
    const number = `a whole number${unit === '' ? '' : ` of ${unit}`}`
    const rule = `${number} from ${min} to ${max}, such as ${fallback}`
    this.fault(name, `${shown(text)} cannot be meant; give ${rule}`)
    return fallback
  }

  flag(name: string, fallback: boolean): boolean {
    return this.choice(name, ['true', 'false'], fallback ? 'true' : 'false') === 'true'
  }

  choice<const T extends string>(name: string, choices: readonly T[], fallback: T): T {
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
  matching(name: string, pattern: RegExp, rule: string, fallback: string): string {
    const text = this.text(name) ?? fallback
    if (!pattern.test(text)) this.fault(name, `${shown(text)} cannot be meant; give ${rule}`)
    return text
  }

  /** Comma-separated, spaces around a part do not count. */
  list(name: string): string[] {
    const text = this.text(name)
    return text === undefined ? [] : text.split(',').map((part) => part.trim())
  }

  /** CIDRs; a bare address means itself. */
  cidrs(name: string): string[] {
    const parts = this.list(name)
    const wrong = parts.filter((part) => !isCidr(part)).map(shown)
    if (wrong.length > 0) this.fault(name, `${wrong.join(', ')}: give CIDRs, such as 10.0.0.0/8`)
    return parts
  }

  /** An https URL without query, or http to loopback; without the slash at its end. */
  httpsUrl(name: string, text: string, what = ''): string {
    const url = attempt(() => new URL(text))
    const isLoopback = /^(localhost|\[::1\]|127(\.\d+){3})$/.test(url?.hostname ?? '')
    const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopback)
    if (!isSafe || /[?#@\s\\]/.test(text)) {
      const rule =
        'an https:// URL without user, query, fragment or space (http:// to loopback only)'
      // Before an @ may stand a password.
      const value = text.includes('@') ? 'it' : shown(text)
      this.fault(name, `${what}${value} cannot be meant; give ${rule}`)
    }
    return text.replace(/\/+$/, '')
  }

  /** Of the file, without a byte order mark and the newlines at its end; `which` ends in a verb, such as `X_FILE names`. */
  content(name: string, path: string, which: string): string | undefined {
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
  return /^(~|\.{0,2})\//.test(path) && !isRandom ? shown(path) : 'a file'
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
