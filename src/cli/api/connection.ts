/** Where the service is and who asks: from options, the environment, or the files of an embedded installation. */
import { errorText } from '../../lib/error-text.ts'
import { editSteps } from '../../lib/nearest.ts'
import { plain } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'

export const FLEETLOOP_URL = 'FLEETLOOP_URL'
const DEFAULT_PORT = '8080'

export interface Connection {
  readonly origin: string
  readonly token: string
  /** ADMIN_HMAC_SECRET of the service; undefined: changes are not signed. */
  readonly hmacSecret: string | undefined
}

export interface Source {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Throws if the file cannot be read. */
  readonly readFile: (path: string) => string
  /** --url and --token-file. */
  readonly url?: string | undefined
  readonly tokenFile?: string | undefined
}

/** The variables of the former `why`. Throws UsageError, its messages followed by `usage`. */
export function connectionOf(env: Source['env'], usage: string): Connection {
  const { FLEETLOOP_TOKEN = '', FLEETLOOP_URL: url = `http://127.0.0.1:${DEFAULT_PORT}` } = env
  const token = FLEETLOOP_TOKEN.trim()
  if (token === '') throw new TokenMissingError(`FLEETLOOP_TOKEN is not set.\n${usage}`)
  // fetch would reject it too, with the token in its message.
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new UsageError(
      'FLEETLOOP_TOKEN holds a space, a newline or what is not ASCII, as no token does: is it one token, whole?',
    )
  }
  return { origin: originOf(url, usage), token, hmacSecret: undefined }
}

/** Refuses misspelt variables; a default would silently replace them. Throws UsageError. */
export function refuseMisspelt({ env, url, tokenFile }: Omit<Source, 'readFile'>): void {
  const needed = [
    { option: url, names: [FLEETLOOP_URL] },
    { option: tokenFile, names: ['FLEETLOOP_TOKEN', 'FLEETLOOP_TOKEN_FILE'] },
    { option: undefined, names: ['ADMIN_HMAC_SECRET', 'ADMIN_HMAC_SECRET_FILE'] },
  ].flatMap(({ option, names }) =>
    option === undefined && names.every((name) => !env[name]) ? names : [],
  )
  for (const name of Object.keys(env).filter((name) => env[name])) {
    const meant = needed.find((known) => editSteps(name.toUpperCase(), known) <= 1)
    if (meant !== undefined) {
      throw new UsageError(`${plain(name)} is unknown; did you mean ${meant}?`)
    }
  }
}

/** No token is known, as before the first start of an installation. */
export class TokenMissingError extends UsageError {}

/** Throws UsageError. */
export function findConnection(source: Source): Connection {
  const { env } = source
  refuseMisspelt(source)
  const usage =
    'Give FLEETLOOP_TOKEN, FLEETLOOP_TOKEN_FILE or --token-file, and FLEETLOOP_URL or --url: fleetloop --help'
  const port = env['PORT'] || DEFAULT_PORT
  const url = source.url ?? (env[FLEETLOOP_URL] || `http://127.0.0.1:${port}`)
  const FLEETLOOP_TOKEN = tokenOf(source)
  const connection = connectionOf({ FLEETLOOP_URL: url, FLEETLOOP_TOKEN }, usage)
  return { ...connection, hmacSecret: secretOf(source, 'ADMIN_HMAC_SECRET') }
}

/** Beside an embedded installation the first start has left a token in DATA_DIR. */
function tokenOf(source: Source): string | undefined {
  const { env, tokenFile } = source
  if (tokenFile !== undefined) return read(source, tokenFile)
  const token = secretOf(source, 'FLEETLOOP_TOKEN')
  if (token !== undefined) return token
  try {
    return source.readFile(`${env['DATA_DIR'] || './data'}/admin-token`)
  } catch {
    return undefined
  }
}

/** Of the variable, or of the file that `<name>_FILE` names. Throws UsageError for both, as the service does. */
function secretOf(source: Source, name: string): string | undefined {
  const value = source.env[name] || undefined
  const path = source.env[`${name}_FILE`]
  if (!path) return value
  if (value === undefined) return read(source, path).trim()
  throw new UsageError(`Both ${name} and ${name}_FILE are given: unset one of them.`)
}

function read({ readFile }: Source, path: string): string {
  try {
    return readFile(path)
  } catch (error) {
    throw new UsageError(`${plain(path)} cannot be read: ${plain(errorText(error))}`)
  }
}

/** Throws UsageError. */
export function originOf(text: string, usage: string): string {
  if (!URL.canParse(text)) {
    throw new UsageError(`FLEETLOOP_URL is no URL: ${plain(text)}\n${usage}`)
  }
  const url = new URL(text)
  if (!isPrivate(url)) {
    throw new UsageError(
      `FLEETLOOP_URL: the token would go to ${plain(`${url.protocol}//${url.host}`)} in clear. Give https://, or http:// to loopback: on that host itself, or through ssh -L.`,
    )
  }
  const { pathname, search, hash, username, password } = url
  if (pathname + search + hash + username + password !== '/') {
    throw new UsageError('FLEETLOOP_URL takes a scheme, a host and a port, and nothing more.')
  }
  return url.origin
}

/** Whether no network sees what is sent there. */
function isPrivate({ protocol, hostname }: URL): boolean {
  const isLoopback = /^(localhost|\[::1\]|127(\.\d+){3})$/.test(hostname)
  return protocol === 'https:' || (protocol === 'http:' && isLoopback)
}
