/** Refuses, on every path, requests that two parsers could read differently. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { AppError } from '../domain/errors.ts'

/** Headers that may appear once: of two, Node silently keeps the first, and a proxy may keep the second. */
const SINGLE_HEADERS = new Set(['host', 'authorization', 'x-device-token', 'content-type'])

/** The lengths of these names: most other names need no lower-casing. */
const HAVE_LENGTH = Array.from({ length: 16 }, (_, length) =>
  [...SINGLE_HEADERS].some((name) => name.length === length),
)

const MAX_HEADERS = 64

/** The characters of uri-host and port (RFC 9110, section 7.2). May be empty. */
const HOST = /^[\w.~!$&'()*+,;=:[\]%-]*$/

/** Where the request ends is unclear: its transfer encoding is another one than `chunked`. */
export function hasUnclearEnd({ 'transfer-encoding': encoding }: IncomingHttpHeaders): boolean {
  return encoding !== undefined && encoding.toLowerCase() !== 'chunked'
}

/** undefined: the request is well formed. */
export function refuseMalformed(request: IncomingMessage): AppError | undefined {
  if (request.rawHeaders.length > 2 * MAX_HEADERS) {
    return new AppError('headers_too_large', `A request may have at most ${MAX_HEADERS} headers.`)
  }
  const { httpVersion } = request
  if (httpVersion !== '1.1' && httpVersion !== '1.0') {
    return new AppError('bad_request', 'Speak HTTP/1.1.')
  }
  const transferEncoding = request.headers['transfer-encoding']
  if (transferEncoding !== undefined) {
    if (httpVersion !== '1.1') {
      return new AppError('bad_request', 'Transfer-Encoding needs HTTP/1.1.')
    }
    if (hasUnclearEnd(request.headers)) {
      return new AppError('transfer_encoding', 'The only transfer encoding served is chunked.')
    }
    if (request.headers.upgrade !== undefined) {
      return new AppError(
        'bad_request',
        'Send no Upgrade with a chunked body, which is not read then.',
      )
    }
  }
  const repeated = repeatedHeader(request.rawHeaders)
  if (repeated !== undefined) {
    return new AppError('bad_request', `The header ${repeated} was sent twice. Send it once.`)
  }
  const { host } = request.headers
  if (host === undefined ? httpVersion === '1.1' : !HOST.test(host)) {
    return new AppError('bad_request', 'Send a Host header with the name or address of this host.')
  }
  if (!request.url?.startsWith('/')) {
    return new AppError('bad_path', 'The request target must be a path that starts with a slash.')
  }
  return undefined
}

function repeatedHeader(rawHeaders: readonly string[]): string | undefined {
  let seen = ''
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const raw = rawHeaders[index] ?? ''
    if (HAVE_LENGTH[raw.length] !== true) continue
    const name = raw.toLowerCase()
    if (!SINGLE_HEADERS.has(name)) continue
    if (seen.includes(`${name},`)) return name
    seen += `${name},`
  }
  return undefined
}
