/**
 * DATABASE_URL: which server, as whom, and how the way there is protected.
 *
 * `pg` would let the query of a URL override any of our options, ignore a misspelt `sslmode` and fill what is left out
 * from the environment. Here the URL alone decides, and what it cannot mean is refused.
 */
import { readFileSync } from 'node:fs'
import { BlockList, isIP } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import type pg from 'pg'
import { nearest } from '../core/nearest.ts'

/** No TLS; TLS with whoever answers; TLS with a server whose certificate a trusted CA issued for this host. */
const SSL_MODES = ['disable', 'no-verify', 'verify-full'] as const
/** Paths of PEM files: the CAs to trust instead of the public ones; a client certificate and its key. */
const SSL_FILES = ['sslrootcert', 'sslcert', 'sslkey'] as const
const KEYS = ['host', 'port', 'user', 'password', 'sslmode', ...SSL_FILES] as const
const FORM =
  'give postgres://user:password@host:5432/database; percent-encode / ? # @ in the password'
const ONE_HOST = 'it names several hosts; give one'
const PORT_RANGE = 'its port is no number from 1 to 65535; give 5432 or that of your server'
const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8)
LOOPBACK.addAddress('::1', 'ipv6')

export type SslMode = (typeof SSL_MODES)[number]
export type SslFiles = Readonly<Partial<Record<(typeof SSL_FILES)[number], string>>>
type Query = Readonly<Partial<Record<(typeof KEYS)[number], string>>>

export interface DatabaseUrl {
  /** A name, an address, or the directory of a unix socket; undefined: localhost. */
  readonly host: string | undefined
  /** undefined: 5432. */
  readonly port: number | undefined
  /** undefined: as the user of the process. */
  readonly user: string | undefined
  readonly password: string | undefined
  /** undefined: named like the user. */
  readonly database: string | undefined
  /** undefined: disable. */
  readonly sslmode: SslMode | undefined
  readonly sslFiles: SslFiles
}

/** The message says what is wrong and how to mend it, and holds nothing that may be of the password. */
export class DatabaseUrlError extends Error {
  override readonly name = 'DatabaseUrlError'
}

/** Throws DatabaseUrlError. As in `pg`, host, port, user and password of the query win. */
export function parseDatabaseUrl(text: string): DatabaseUrl {
  const { url, hostname } = parseUrl(text)
  const query = readQuery(url.searchParams)
  const { sslrootcert, sslcert, sslkey } = query
  const sslFiles = {
    ...(sslrootcert && { sslrootcert }),
    ...(sslcert && { sslcert }),
    ...(sslkey && { sslkey }),
  }
  const host = query.host || decoded(hostname).replace(/^\[(.*)\]$/, '$1') || undefined
  if (host?.includes(',') && !host.startsWith('/')) throw new DatabaseUrlError(ONE_HOST)
  const port = query.port || url.port || undefined
  if (port !== undefined && !(/^\d+$/.test(port) && Number(port) > 0 && Number(port) < 65_536)) {
    throw new DatabaseUrlError(PORT_RANGE)
  }
  return {
    host,
    port: port === undefined ? undefined : Number(port),
    user: query.user || decoded(url.username) || undefined,
    password: query.password || decoded(url.password) || undefined,
    database: decoded(url.pathname.slice(1)) || undefined,
    sslmode: readSslMode(query.sslmode, sslFiles),
    sslFiles,
  }
}

/** Whether nobody on a network can read or alter what is sent: a unix socket or loopback. */
export function isLocal({ host = 'localhost' }: Pick<DatabaseUrl, 'host'>): boolean {
  if (host.startsWith('/') || host.toLowerCase() === 'localhost') return true
  const family = isIP(host)
  return family !== 0 && LOOPBACK.check(host, family === 6 ? 'ipv6' : 'ipv4')
}

/** What `pg` needs to connect; nothing that it would look up elsewhere but the user and, without one, the password. */
export function connectionOf(text: string): pg.ClientConfig {
  const url = parseDatabaseUrl(text)
  const { host = 'localhost', port = 5432, user, password, database } = url
  return { host, port, user, password, database, ssl: tlsOf(url), sslnegotiation: 'postgres' }
}

/** As libpq does, a unix socket ignores sslmode: there is no TLS on it. */
function tlsOf({ host, sslmode = 'disable', sslFiles }: DatabaseUrl): ConnectionOptions | false {
  if (sslmode === 'disable' || host?.startsWith('/')) return false
  const [ca, cert, key] = SSL_FILES.map((name) => reread(sslFiles[name]))
  return {
    rejectUnauthorized: sslmode === 'verify-full',
    get ca() {
      return ca?.()
    },
    get cert() {
      return cert?.()
    },
    get key() {
      return key?.()
    },
  }
}

/** Reads the file for each connection, so that a renewed certificate needs no restart; keeps the last one while it cannot. */
function reread(path: string | undefined): (() => string) | undefined {
  if (path === undefined) return undefined
  let last = readFileSync(path, 'utf8')
  return () => {
    try {
      last = readFileSync(path, 'utf8')
    } catch {} // is being replaced
    return last
  }
}

/** `hostname` is empty where there is none, as in `user@/database`, which the WHATWG's URL refuses. */
function parseUrl(text: string): { readonly url: URL; readonly hostname: string } {
  const [front = '', authority = ''] = /^postgres(?:ql)?:\/\/([^/?#]*)/.exec(text) ?? []
  const hasHost = !authority.endsWith('@')
  const whole = hasHost ? text : `${front}localhost${text.slice(front.length)}`
  if (authority.includes(',', authority.lastIndexOf('@') + 1)) throw new DatabaseUrlError(ONE_HOST)
  const withoutPort = whole.replace(/:\d+(?=$|[/?#])/, '')
  if (front !== '' && !URL.canParse(whole) && URL.canParse(withoutPort)) {
    throw new DatabaseUrlError(PORT_RANGE)
  }
  if (front === '' || !URL.canParse(whole)) throw new DatabaseUrlError(FORM)
  const url = new URL(whole)
  // Of a password that is not percent-encoded, the rest is in the path, the query or the fragment.
  const isWhole = !url.pathname.includes('@') && url.hash === ''
  if (!isWhole || ![...url.searchParams.keys()].every((key) => /^\w{1,40}$/.test(key))) {
    throw new DatabaseUrlError(FORM)
  }
  return { url, hostname: hasHost ? url.hostname : '' }
}

/** Refuses what `pg` would ignore or take for an option of its own. */
function readQuery(params: URLSearchParams): Query {
  const keys = [...params.keys()]
  const unknown = keys.find((key) => !KEYS.some((known) => known === key))
  if (unknown !== undefined) {
    const meant = nearest(unknown, KEYS)
    const question = meant === undefined ? '.' : `; is ${meant} meant?`
    throw new DatabaseUrlError(
      `its query has ${unknown}, which means nothing here${question} Known: ${KEYS.join(', ')}`,
    )
  }
  const twice = keys.find((key, index) => keys.indexOf(key) !== index)
  if (twice !== undefined) throw new DatabaseUrlError(`its query has ${twice} twice; give it once`)
  const empty = keys.find((key) => params.get(key) === '')
  if (empty !== undefined) throw new DatabaseUrlError(`its query has ${empty} without a value`)
  return Object.fromEntries(params)
}

function readSslMode(text: string | undefined, files: SslFiles): SslMode | undefined {
  const mode = SSL_MODES.find((known) => known === text)
  if (text !== undefined && mode === undefined) {
    const was = /^(prefer|require|verify-ca)$/.test(text) ? ' (as which it was read so far)' : ''
    throw new DatabaseUrlError(
      `its sslmode is none of ${SSL_MODES.join(', ')}; give verify-full${was}`,
    )
  }
  if (files.sslrootcert && mode !== 'verify-full') {
    throw new DatabaseUrlError('its sslrootcert counts with sslmode=verify-full only; give that')
  }
  if ((files.sslcert === undefined) !== (files.sslkey === undefined)) {
    throw new DatabaseUrlError('sslcert and sslkey belong together; give both or none')
  }
  if (files.sslcert && mode !== 'verify-full' && mode !== 'no-verify') {
    throw new DatabaseUrlError('its sslcert counts with TLS only; give sslmode=verify-full')
  }
  return mode
}

/** A % that begins no percent-encoding stands for itself, as in `pg`. */
function decoded(text: string): string {
  return text.replace(/(%[0-9a-f]{2})+/gi, (encoded) => {
    try {
      return decodeURIComponent(encoded)
    } catch {
      return encoded // no UTF-8
    }
  })
}
