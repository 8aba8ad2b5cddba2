/** The settings that are secrets of ours: their form, and whether somebody could guess them. */

import {
  ADMIN_SCOPES,
  type AdminScope,
  type AdminToken,
  type HmacSecret,
} from '../domain/identity.ts'
import { ADMIN_NAME } from '../domain/ids.ts'
import { nearest } from '../lib/nearest.ts'
import { type EnvReader, isQuoted, QUOTED, shown } from './env-reader.ts'
import { apparentBits } from './secret-strength.ts'

const MIN_CHARS = 24
const MIN_BITS = 128
/** The name, its scopes, the secret. */
const ADMIN_TOKEN = /^([^:=]*)(?::([^=]*))?=(.*)$/
const RANDOM = 'make one with: openssl rand -base64 32'

export function readAdminHmacSecret(read: EnvReader): string | null {
  const text = read.text('ADMIN_HMAC_SECRET')
  if (text !== undefined) {
    checkSecret(read, 'ADMIN_HMAC_SECRET', 'the secret', text)
    refuseQuotes(read, 'ADMIN_HMAC_SECRET', 'the secret', text)
  }
  return text ?? null
}

/** `name[:scope[+scope]]=secret,…`; the secret begins behind the first `=`. */
export function readAdminTokens(read: EnvReader): readonly AdminToken[] {
  const name = 'ADMIN_TOKENS'
  const parts = read.list(name)
  const tokens = parts.flatMap((part, index) => {
    const [, admin, scopes = 'admin', secret] = ADMIN_TOKEN.exec(part) ?? []
    const entry = `entry ${index + 1}`
    if (admin === undefined || secret === undefined || !ADMIN_NAME.test(admin)) {
      read.fault(name, `${entry} is not name[:scope[+scope]]=secret`)
      return []
    }
    if (/;[^;=]+=[^=]{24,}/.test(secret)) {
      read.fault(
        name,
        `${entry} holds a semicolon and another name=secret; separate them by commas`,
      )
      return []
    }
    checkSecret(read, name, `the secret of ${entry}`, secret)
    refuseQuotes(read, name, `the secret of ${entry}`, secret)
    if (/^[ed]t_/.test(secret)) {
      read.fault(name, `the secret of ${entry} begins like a device's (et_, dt_); ${RANDOM}`)
    }
    return [{ name: admin, scopes: readScopes(read, entry, scopes), secret }]
  })
  // Else entry 2 is not the second of them.
  if (tokens.length === parts.length) checkDistinct(read, name, ['name', 'secret'], tokens)
  return tokens
}

/**
 * `secret`, or `id=secret,id=secret`. A lone value whose only `=` end it is a bare secret (base64), and
 * so is one where no id of at most 32 characters stands before the `=`. A bare secret holds no comma.
 * `id=tooshort` is refused, never taken for a bare secret.
 */
export function readHmacSecrets(read: EnvReader): readonly HmacSecret[] {
  const name = 'HMAC_SECRET'
  const parts = read.list(name)
  const secrets = parts.flatMap((part, index) => {
    const entry = `entry ${index + 1}`
    const [, id = 'default', named] = /^([A-Za-z0-9_-]{1,32})=(=*[^=].*)$/.exec(part) ?? []
    if (named === undefined && parts.length > 1) {
      read.fault(name, `${entry} of ${parts.length} is not id=secret (a secret holds no comma)`)
      return []
    }
    const secret = named ?? part
    // Those behind the first only verify. A weak one must stay there until no phone has a token or key of it.
    if (index > 0) checkForm(read, name, `the secret of ${entry}`, secret)
    else checkSecret(read, name, `the secret of ${entry}`, secret, keepingPhones(id))
    return [{ id, secret }]
  })
  if (secrets.length === parts.length) checkDistinct(read, name, ['id', 'secret'], secrets)
  return secrets
}

function keepingPhones(id: string): string {
  return `. Enrolled phones need this one as well, behind the new one: HMAC_SECRET="${id}2=…,${id}=<this one>" (several replicas: first docs/operate/secrets.md)`
}

/** `docker run --env-file` keeps them. HMAC_SECRET may have some: phones hold keys of it. */
function refuseQuotes(read: EnvReader, name: string, what: string, secret: string): void {
  if (isQuoted(secret)) read.fault(name, `${what} ${QUOTED}`)
}

function readScopes(read: EnvReader, entry: string, text: string): AdminScope[] {
  const words = text.split('+')
  const scopes = ADMIN_SCOPES.filter((scope) => words.includes(scope))
  const known = `give ${ADMIN_SCOPES.join(', ')}, joined by +`
  const odd = words.find((word) => !ADMIN_SCOPES.some((scope) => scope === word))
  if (odd !== undefined) {
    // A word close to a scope is a typo, not a misplaced secret.
    const meant = /^[a-z]{1,12}$/i.test(odd) ? nearest(odd, ADMIN_SCOPES) : undefined
    const which = meant === undefined ? '' : ` ${shown(odd)} (is ${meant} meant?)`
    read.fault('ADMIN_TOKENS', `${entry} has an unknown scope${which}; ${known}`)
  } else if (scopes.length < words.length) {
    read.fault('ADMIN_TOKENS', `${entry} has a scope twice; ${known}`)
  }
  return scopes
}

/** `also` ends the message where it is guessable. */
function checkSecret(read: EnvReader, name: string, what: string, secret: string, also = ''): void {
  if (!checkForm(read, name, what, secret)) return
  const bits = Math.floor(apparentBits(secret))
  if (bits >= MIN_BITS) return
  const found = `${what} looks guessable: about ${bits} bits, and ${MIN_BITS} are needed`
  read.fault(name, `${found}; ${RANDOM}${also}`)
}

function checkForm(read: EnvReader, name: string, what: string, secret: string): boolean {
  const isLong = secret.length >= MIN_CHARS
  const isSendable = /^[\x21-\x7e]*$/.test(secret)
  if (!isLong) read.fault(name, `${what} has fewer than ${MIN_CHARS} characters; ${RANDOM}`)
  else if (!isSendable) {
    read.fault(name, `${what} holds what no header can carry (space, control, non-ASCII)`)
  }
  return isLong && isSendable
}

function checkDistinct<K extends string>(
  read: EnvReader,
  name: string,
  keys: readonly K[],
  items: readonly Readonly<Record<K, unknown>>[],
): void {
  for (const key of keys) {
    const values = items.map((item) => item[key])
    const second = values.findIndex((value, index) => values.indexOf(value) !== index)
    if (second === -1) continue
    const first = values.indexOf(values[second])
    read.fault(
      name,
      `entries ${first + 1} and ${second + 1} have the same ${key}; each needs its own`,
    )
  }
}
