/**
 * Parses DATABASE_URL: servers, credentials and transport security.
 *
 * `pg` would let the query override any of our options, ignore a misspelled `sslmode` and take missing parts from the
 * environment. Here only the URL decides, and anything unknown is refused.
 */
import { readFileSync } from 'node:fs'
import { BlockList, isIP } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import type pg from 'pg'
import { nearest } from '../../lib/nearest.ts'

/** No TLS; TLS with any server; TLS with a server whose certificate a trusted CA issued for this host. */
const SSL_MODES = ['disable', 'no-verify', 'verify-full'] as const
/** Paths of PEM files: the CAs to trust instead of the public ones; a client certificate and its key. */
const SSL_FILES = ['sslrootcert', 'sslcert', 'sslkey'] as const
const ATTRS = 'target_session_attrs'
const KEYS = ['host', 'port', 'user', 'password', 'sslmode', ...SSL_FILES, ATTRS] as const
/** All mean the same to a service that writes: the first host that accepts writes. */
const TARGETS = ['read-write', 'primary', 'any'] as const
/** libpq's other values. */
const READ_ONLY_TARGETS = /^(read-only|standby|prefer-standby)$/
/** Hosts per URL. */
const MAX_HOSTS = 8
const FORM =
  'give postgres://user:password@host:5432/database; percent-encode / ? # @ in the password'
const PORT_RANGE = 'its port is no number from 1 to 65535; give 5432 or that of your server'
const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8)
LOOPBACK.addAddress('::1', 'ipv6')

export type SslMode = (typeof SSL_MODES)[number]
export type SslFiles = Readonly<Partial<Record<(typeof SSL_FILES)[number], string>>>
type Query = Readonly<Partial<Record<(typeof KEYS)[number], string>>>

export interface DatabaseHost {
  /** A name, an address or a socket directory; undefined: localhost. */
  readonly host: string | undefined
  /** undefined: 5432. */
  readonly port: number | undefined
}

export interface DatabaseUrl {
  /** In the order of attempts; at least one. */
  readonly hosts: readonly DatabaseHost[]
  /** undefined: the process's user. */
  readonly user: string | undefined
  readonly password: string | undefined
  /** undefined: the user's name. */
  readonly database: string | undefined
  /** undefined: disable. */
  readonly sslmode: SslMode | undefined
  readonly sslFiles: SslFiles
}

/** The message says what is wrong and how to fix it, and contains nothing that may be part of a password. */
export class DatabaseUrlError extends Error {
  override readonly name = 'DatabaseUrlError'
}

/** Throws DatabaseUrlError. As in `pg`, host, port, user and password in the query take precedence. */
export function parseDatabaseUrl(text: string): DatabaseUrl {
  const { url, authority } = parseUrl(text)
  const query = readQuery(url.searchParams)
  const { sslrootcert, sslcert, sslkey } = query
  const sslFiles = {
    ...(sslrootcert && { sslrootcert }),
    ...(sslcert && { sslcert }),
    ...(sslkey && { sslkey }),
  }
  checkTarget(query[ATTRS])
  return {
    hosts: readHosts(authority, query),
    user: query.user || decoded(url.username) || undefined,
    password: query.password || decoded(url.password) || undefined,
    database: decoded(url.pathname.slice(1)) || undefined,
    sslmode: readSslMode(query.sslmode, sslFiles),
    sslFiles,
  }
}

/** Splits at each comma, like libpq, but not within a directory: no other host has a slash. */
function splitHosts(list: string): readonly string[] {
  const hosts: string[] = []
  for (const part of list.split(',')) {
    const isRest = part.includes('/') && !part.startsWith('/')
    const directory = isRest ? hosts.findLastIndex((host) => host.startsWith('/')) : -1
    if (directory === -1) hosts.push(part)
    else hosts.push([...hosts.splice(directory), part].join(','))
  }
  return hosts
}

/** Like libpq: a list as the URL's host, or in the query; one port for all, or one for each. */
function readHosts(authority: readonly Address[], query: Query): readonly DatabaseHost[] {
  const hosts = query.host ? splitHosts(query.host) : authority.map(({ host }) => host)
  const ports = query.port?.split(',') ?? authority.map(({ port }) => port)
  if (hosts.length > MAX_HOSTS) {
    throw new DatabaseUrlError(`it names ${hosts.length} hosts; give ${MAX_HOSTS} at most`)
  }
  if (hosts.length > 1 && hosts.includes('')) {
    throw new DatabaseUrlError('one of its hosts is empty; leave out a comma, or name the host')
  }
  if (ports.length !== 1 && ports.length !== hosts.length) {
    throw new DatabaseUrlError(
      `it names ${hosts.length} hosts and ${ports.length} ports; give one port for all, or one for each`,
    )
  }
  return hosts.map((host, index) => {
    const port = ports[ports.length === 1 ? 0 : index] || undefined
    if (port !== undefined && !(/^\d+$/.test(port) && Number(port) > 0 && Number(port) < 65_536)) {
      throw new DatabaseUrlError(PORT_RANGE)
    }
    return { host: host || undefined, port: port === undefined ? undefined : Number(port) }
  })
}

function checkTarget(text: string | undefined): void {
  if (text === undefined || TARGETS.some((known) => known === text)) return
  if (READ_ONLY_TARGETS.test(text)) {
    throw new DatabaseUrlError(
      `its ${ATTRS}=${text} leads to servers that take no writes; give ${ATTRS}=read-write`,
    )
  }
  throw new DatabaseUrlError(
    `its ${ATTRS} is none of ${TARGETS.join(', ')}; give ${ATTRS}=read-write`,
  )
}

/** Whether no network is involved: a unix socket or loopback. */
export function isLocal({ host = 'localhost' }: Pick<DatabaseHost, 'host'>): boolean {
  if (host.startsWith('/') || host.toLowerCase() === 'localhost') return true
  const family = isIP(host)
  return family !== 0 && LOOPBACK.check(host, family === 6 ? 'ipv6' : 'ipv4')
}

/** pg's options for each host, in order. `pg` looks up nothing else, except the user and a missing password. */
export function serversOf(text: string): readonly ServerConfig[] {
  const url = parseDatabaseUrl(text)
  const { user, password, database } = url
  const files = SSL_FILES.map((name) => reread(url.sslFiles[name]))
  return url.hosts.map(({ host = 'localhost', port = 5432 }) => {
    const ssl = tlsOf(host, url.sslmode, files)
    return { host, port, user, password, database, ssl, sslnegotiation: 'postgres' }
  })
}

export interface ServerConfig extends pg.ClientConfig {
  readonly host: string
  readonly port: number
  readonly ssl: ConnectionOptions | false
}

/** A unix socket ignores sslmode, as in libpq: it has no TLS. */
function tlsOf(
  host: string,
  sslmode: SslMode | undefined,
  [ca, cert, key]: readonly (Reread | undefined)[],
): ConnectionOptions | false {
  if (sslmode === undefined || sslmode === 'disable' || host.startsWith('/')) return false
  return {
    rejectUnauthorized: sslmode === 'verify-full',
    // The certificate must name the URL's host, whichever address is used.
    host,
    ...(isIP(host) === 0 && { servername: host }),
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

type Reread = () => string

/** Reads the file for each connection, so a renewed certificate needs no restart. Keeps the last content on errors. */
function reread(path: string | undefined): Reread | undefined {
  if (path === undefined) return undefined
  let last = readFileSync(path, 'utf8')
  return () => {
    try {
      last = readFileSync(path, 'utf8')
    } catch {} // being replaced
    return last
  }
}

/** The host and port of an authority; empty if missing. */
interface Address {
  readonly host: string
  readonly port: string
}

/** URL accepts one host and rejects `user@/database`: each host is parsed separately from the rest. */
function parseUrl(text: string): { readonly url: URL; readonly authority: readonly Address[] } {
  const [front = '', scheme = '', authority = ''] =
    /^(postgres(?:ql)?:\/\/)([^/?#]*)/.exec(text) ?? []
  const at = authority.lastIndexOf('@') + 1
  const whole = `${scheme}${authority.slice(0, at)}localhost${text.slice(front.length)}`
  if (front === '' || !URL.canParse(whole)) throw new DatabaseUrlError(FORM)
  const url = new URL(whole)
  // A password without percent-encoding spills into the path, the query or the fragment.
  const isWhole = !url.pathname.includes('@') && url.hash === ''
  if (!isWhole || ![...url.searchParams.keys()].every((key) => /^\w{1,40}$/.test(key))) {
    throw new DatabaseUrlError(FORM)
  }
  return { url, authority: authority.slice(at).split(',').map(readAddress) }
}

function readAddress(text: string): Address {
  if (text === '') return { host: '', port: '' }
  const whole = `postgres://${text}`
  if (!URL.canParse(whole)) {
    const isPort = URL.canParse(whole.replace(/(?<=[^/]):\d+$/, ''))
    throw new DatabaseUrlError(isPort ? PORT_RANGE : FORM)
  }
  const { hostname, port } = new URL(whole)
  const host = decoded(hostname).replace(/^\[(.*)\]$/, '$1')
  // A percent-encoded comma belongs to the name; only a directory may contain one.
  if (host.includes(',') && !host.startsWith('/')) throw new DatabaseUrlError(FORM)
  return { host, port }
}

/** Refuses parameters that `pg` would ignore or take as its own options. */
function readQuery(params: URLSearchParams): Query {
  const keys = [...params.keys()]
  const unknown = keys.find((key) => !KEYS.some((known) => known === key))
  if (unknown !== undefined) {
    const suggestion = nearest(unknown, KEYS)
    const question = suggestion === undefined ? '.' : `; is ${suggestion} meant?`
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

/** A % outside of a percent-encoding is kept, as in `pg`. */
function decoded(text: string): string {
  return text.replace(/(%[0-9a-f]{2})+/gi, (encoded) => {
    try {
      return decodeURIComponent(encoded)
    } catch {
      return encoded // not UTF-8
    }
  })
}
