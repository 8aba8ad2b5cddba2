/**
 * DATABASE_URL: which servers, as whom, and how the way there is protected.
 *
 * `pg` would let the query of a URL override any of our options, ignore a misspelt `sslmode` and fill what is left out
 * from the environment. Here the URL alone decides, and what it cannot mean is refused.
 */
import { readFileSync } from 'node:fs'
import { BlockList, isIP } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import type pg from 'pg'
import { nearest } from '../../lib/nearest.ts'

/** No TLS; TLS with whoever answers; TLS with a server whose certificate a trusted CA issued for this host. */
const SSL_MODES = ['disable', 'no-verify', 'verify-full'] as const
/** Paths of PEM files: the CAs to trust instead of the public ones; a client certificate and its key. */
const SSL_FILES = ['sslrootcert', 'sslcert', 'sslkey'] as const
const ATTRS = 'target_session_attrs'
const KEYS = ['host', 'port', 'user', 'password', 'sslmode', ...SSL_FILES, ATTRS] as const
/** The service writes, so each of them means the same here: the first host that takes writes. */
const TARGETS = ['read-write', 'primary', 'any'] as const
/** libpq's others. */
const READ_ONLY_TARGETS = /^(read-only|standby|prefer-standby)$/
/** Hosts of one URL. */
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
  /** A name, an address, or the directory of a unix socket; undefined: localhost. */
  readonly host: string | undefined
  /** undefined: 5432. */
  readonly port: number | undefined
}

export interface DatabaseUrl {
  /** In the order in which they are tried; one or more. */
  readonly hosts: readonly DatabaseHost[]
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
    hosts: readHosts(namedHosts(url) ?? authority.map(({ host }) => host), authority, query.port),
    user: query.user || decoded(url.username) || undefined,
    password: query.password || decoded(url.password) || undefined,
    database: decoded(url.pathname.slice(1)) || undefined,
    sslmode: readSslMode(query.sslmode, sslFiles),
    sslFiles,
  }
}

/** The hosts of the query, which win. A comma separates them, but a percent-encoded one in a directory is part of its name. */
function namedHosts({ search }: URL): readonly string[] | undefined {
  const [, list] = /[?&]host=([^&]*)/.exec(search) ?? []
  return list?.split(',').flatMap((encoded) => {
    const host = new URLSearchParams(`host=${encoded}`).get('host') ?? ''
    return host.startsWith('/') ? [host] : host.split(',')
  })
}

/** As libpq reads them: a list in the place of a host, or in the query; one port for all, or one for each. */
function readHosts(
  hosts: readonly string[],
  authority: readonly Address[],
  portList: string | undefined,
): readonly DatabaseHost[] {
  const ports = portList?.split(',') ?? authority.map(({ port }) => port)
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

/** Whether nobody on a network can read or alter what is sent: a unix socket or loopback. */
export function isLocal({ host = 'localhost' }: Pick<DatabaseHost, 'host'>): boolean {
  if (host.startsWith('/') || host.toLowerCase() === 'localhost') return true
  const family = isIP(host)
  return family !== 0 && LOOPBACK.check(host, family === 6 ? 'ipv6' : 'ipv4')
}

/**
 * What `pg` needs to connect to each host, in their order; nothing that it would look up elsewhere but the user and,
 * without one, the password.
 */
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

/** As libpq does, a unix socket ignores sslmode: there is no TLS on it. */
function tlsOf(
  host: string,
  sslmode: SslMode | undefined,
  [ca, cert, key]: readonly (Reread | undefined)[],
): ConnectionOptions | false {
  if (sslmode === undefined || sslmode === 'disable' || host.startsWith('/')) return false
  return {
    rejectUnauthorized: sslmode === 'verify-full',
    // The certificate must name the host of the URL, whichever of its addresses is tried.
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

/** Reads the file for each connection, so that a renewed certificate needs no restart; keeps the last one while it cannot. */
function reread(path: string | undefined): Reread | undefined {
  if (path === undefined) return undefined
  let last = readFileSync(path, 'utf8')
  return () => {
    try {
      last = readFileSync(path, 'utf8')
    } catch {} // is being replaced
    return last
  }
}

/** What stands for a host and a port before the path; empty where it does not. */
interface Address {
  readonly host: string
  readonly port: string
}

/** The WHATWG's URL takes one host, and `user@/database` not at all: each host is read for itself, and the rest without. */
function parseUrl(text: string): { readonly url: URL; readonly authority: readonly Address[] } {
  const [front = '', scheme = '', authority = ''] =
    /^(postgres(?:ql)?:\/\/)([^/?#]*)/.exec(text) ?? []
  const at = authority.lastIndexOf('@') + 1
  const whole = `${scheme}${authority.slice(0, at)}localhost${text.slice(front.length)}`
  if (front === '' || !URL.canParse(whole)) throw new DatabaseUrlError(FORM)
  const url = new URL(whole)
  // Of a password that is not percent-encoded, the rest is in the path, the query or the fragment.
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
  // Percent-encoded, a comma is of a name; only a directory may have one.
  if (host.includes(',') && !host.startsWith('/')) throw new DatabaseUrlError(FORM)
  return { host, port }
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
