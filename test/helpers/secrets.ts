/**
 * Every secret that this test file gave to a service or got from one, and how it may look where it must not stand:
 * in nothing that a service writes (R11). Files are processes of their own, so one book serves all services of a file.
 */
import { createHash } from 'node:crypto'

/** Shorter ones are made-up words of a test, such as `x`. */
const MIN_LENGTH = 16
/** Tests name push tokens after their phones, and those names may be logged; real ones have 140 characters and more. */
const MIN_PUSH_TOKEN_LENGTH = 32
/** Enrollment, device and Google access tokens from any source. */
const TOKEN = /(?:[ed]t_[A-Za-z0-9_-]{43}|ya29\.[A-Za-z0-9_-]{16,})/g
/** Of those a piece is already too much: parsers quote ten characters of what they do not understand. */
const PIECE_LENGTH = 10
/** Under these names a body holds a secret. */
const SECRET_NAMES = new Set(['token', 'device_token', 'hmac_key', 'access_token'])
/** Not HMAC_SECRET_FILE: a path. */
const SECRET_SETTINGS = /(?:TOKENS|SECRET)(?!.*_FILE$)/
const KEY_SETTING = 'FIREBASE_SERVICE_ACCOUNT_JSON'

const known = new Set<string>()

export function rememberSecret(secret: unknown): void {
  if (typeof secret === 'string' && secret.length >= MIN_LENGTH) known.add(secret)
}

/** The secrets in a JSON body, at any depth. */
export function rememberBody(body: unknown): void {
  if (typeof body !== 'object' || body === null) return
  for (const [name, value] of Object.entries(body)) {
    if (SECRET_NAMES.has(name)) rememberSecret(value)
    if (name === 'fcm_token' && String(value).length >= MIN_PUSH_TOKEN_LENGTH) rememberSecret(value)
    rememberBody(value)
  }
}

/** `Authorization`, `X-Device-Token` and `X-Signature`. */
export function rememberHeaders(headers: Readonly<Record<string, string>> = {}): void {
  for (const [name, value] of Object.entries(headers)) {
    if (/^authorization$/i.test(name)) rememberSecret(value.replace(/^\w+ +/, ''))
    if (/^x-device-token$/i.test(name)) rememberSecret(value)
    if (/^x-signature$/i.test(name)) rememberSecret(/v1=(.*)/.exec(value)?.[1])
  }
}

/** Settings of a service. */
export function rememberSettings(settings: Readonly<Record<string, string | undefined>>): void {
  for (const [name, value = ''] of Object.entries(settings)) {
    if (name === KEY_SETTING) rememberKey(value)
    else if (SECRET_SETTINGS.test(name)) {
      for (const one of value.split(',')) rememberSecret(one.replace(/^[^=]*=(?=.)/, ''))
    } else if (/^(postgres(ql)?|http):/.test(value) && URL.canParse(value)) {
      rememberSecret(decodeURIComponent(new URL(value).password))
    }
  }
}

/** Line by line: JSON escapes line ends. */
function rememberKey(serviceAccountJson: string): void {
  const pem = /"private_key": ?"([^"]*)"/.exec(serviceAccountJson)?.[1] ?? ''
  for (const line of pem.split(String.raw`\n`)) if (!line.startsWith('-')) rememberSecret(line)
}

/** Forms of a secret in a text: as it is, the beginning of a token, or the hex of it or of its decoded bytes. */
function formsOf(secret: string): readonly string[] {
  const hexOf = (encoding: 'utf8' | 'base64url') => Buffer.from(secret, encoding).toString('hex')
  const isEncoded = /^[A-Za-z0-9_-]+$/.test(secret)
  const shown = secret.search(TOKEN) === 0 ? secret.slice(0, PIECE_LENGTH) : secret
  return [shown, hexOf('utf8'), ...(isEncoded ? [hexOf('base64url')] : [])]
}

function hashesOf(secret: string): readonly string[] {
  const hash = createHash('sha256').update(secret).digest()
  return [hash.toString('hex'), hash.toString('base64url'), hash.toString('base64')]
}

export function rememberedSecrets(): readonly string[] {
  return [...known]
}

/** What of all this stands in `text`, each with its surroundings; hashes too, but where they may be stored. */
export function leaksIn(text: string, allowed?: 'hashes'): readonly string[] {
  const forms = [...known].flatMap((secret) => [
    ...formsOf(secret),
    ...(allowed === 'hashes' ? [] : hashesOf(secret)),
  ])
  const leaked = [...[...text.matchAll(TOKEN)].map(([token]) => token), ...standingIn(text, forms)]
  return [...new Set(leaked)].map((form) => {
    const at = text.indexOf(form)
    return text.slice(Math.max(0, at - 200), at + form.length + 40)
  })
}

const BASE = 31
/** The weight of the character that leaves: an integer below 2^53, of which Math.imul takes the lower 32 bits. */
const LEAVING = BASE ** PIECE_LENGTH
const FILTER_MASK = 0xffff

/**
 * Those of `forms`, of PIECE_LENGTH characters at least, that stand in `text`: in one pass (Rabin and Karp 1987), since
 * a file may know a thousand secrets in six forms each and read 10 MB of lines.
 */
function standingIn(text: string, forms: readonly string[]): ReadonlySet<string> {
  const byPiece = new Map<string, string[]>()
  const filter = new Uint8Array(FILTER_MASK + 1)
  for (const form of forms) {
    const piece = form.slice(0, PIECE_LENGTH)
    byPiece.set(piece, [...(byPiece.get(piece) ?? []), form])
    let hash = 0
    for (let i = 0; i < PIECE_LENGTH; i += 1)
      hash = (Math.imul(hash, BASE) + piece.charCodeAt(i)) | 0
    filter[hash & FILTER_MASK] = 1
  }
  const found = new Set<string>()
  let hash = 0
  for (let end = 1; end <= text.length; end += 1) {
    const start = end - PIECE_LENGTH
    const left = start > 0 ? Math.imul(LEAVING, text.charCodeAt(start - 1)) : 0
    hash = (Math.imul(hash, BASE) + text.charCodeAt(end - 1) - left) | 0
    if (start < 0 || filter[hash & FILTER_MASK] === 0) continue
    for (const form of byPiece.get(text.slice(start, end)) ?? []) {
      if (text.startsWith(form, start)) found.add(form)
    }
  }
  return found
}
