/** Requests that are refused before they reach a route. */
import { head } from '../helpers/raw.ts'
import { ADMIN } from '../helpers/service.ts'

export const AUTHORIZED = `Authorization: Bearer ${ADMIN}`
const TLS_HELLO = Buffer.from('16030100c8010000c40303', 'hex')
const H2_PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

interface Case {
  readonly title: string
  readonly bytes: string | Uint8Array
  readonly status: number
  readonly code: string
  /** Of the terminal line. */
  readonly route?: string
}

export const GET = 'GET /v1/nowhere HTTP/1.1'
const BEAT = 'POST /v1/heartbeat HTTP/1.1'

export const REFUSED: readonly Case[] = [
  { title: 'garbage', bytes: 'hello\r\n\r\n', status: 400, code: 'bad_request' },
  { title: 'a TLS hello', bytes: TLS_HELLO, status: 400, code: 'bad_request' },
  { title: 'an HTTP/2 preface', bytes: H2_PREFACE, status: 400, code: 'bad_request' },
  {
    title: 'no Host',
    bytes: `${GET}\r\n\r\n`,
    status: 400,
    code: 'bad_request',
  },
  {
    title: 'two Hosts',
    bytes: head(GET, 'Host: a', 'Host: b'),
    status: 400,
    code: 'bad_request',
  },
  {
    title: 'two Authorizations',
    bytes: head('GET /admin/devices HTTP/1.1', AUTHORIZED, 'authorization: Bearer other'),
    status: 400,
    code: 'bad_request',
    route: '/admin/devices',
  },
  {
    title: 'two device tokens',
    bytes: head(BEAT, 'X-Device-Token: a', 'x-device-token: b', 'Content-Length: 0'),
    status: 400,
    code: 'bad_request',
    route: '/v1/heartbeat',
  },
  {
    title: 'an absolute-form target',
    bytes: head('GET http://test/healthz HTTP/1.1'),
    status: 400,
    code: 'bad_path',
  },
  { title: 'OPTIONS *', bytes: head('OPTIONS * HTTP/1.1'), status: 400, code: 'bad_path' },
  { title: 'CONNECT', bytes: head('CONNECT a:443 HTTP/1.1'), status: 400, code: 'bad_path' },
  { title: 'an unknown method', bytes: head('BREW / HTTP/1.1'), status: 400, code: 'bad_request' },
  {
    title: 'a known method on a path without it',
    bytes: head('TRACE /v1/heartbeat HTTP/1.1'),
    status: 405,
    code: 'method_not_allowed',
    route: '/v1/heartbeat',
  },
  { title: 'an unknown path', bytes: head(GET), status: 404, code: 'not_found' },
  {
    title: 'HTTP/1.0 with Transfer-Encoding',
    bytes: `${head('POST /v1/heartbeat HTTP/1.0', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
    status: 400,
    code: 'bad_request',
    route: '/v1/heartbeat',
  },
  {
    title: 'Transfer-Encoding: gzip, chunked',
    bytes: `${head(BEAT, 'Transfer-Encoding: gzip, chunked')}0\r\n\r\n`,
    status: 501,
    code: 'transfer_encoding',
    route: '/v1/heartbeat',
  },
  {
    title: 'Content-Length beside Transfer-Encoding',
    bytes: `${head(BEAT, 'Content-Length: 4', 'Transfer-Encoding: chunked')}0\r\n\r\n${head(GET)}`,
    status: 400,
    code: 'bad_request',
  },
  {
    title: 'two Content-Lengths',
    bytes: `${head(BEAT, 'Content-Length: 0', 'Content-Length: 5')}hello${head(GET)}`,
    status: 400,
    code: 'bad_request',
  },
  {
    title: 'a Content-Length that is no number',
    bytes: `${head(BEAT, 'Content-Length: +1')}x`,
    status: 400,
    code: 'bad_request',
  },
  {
    title: 'a folded header',
    bytes: head(GET, 'X-A: 1', ' 2'),
    status: 400,
    code: 'bad_request',
  },
  { title: 'bare line feeds', bytes: `${GET}\nHost: a\n\n`, status: 400, code: 'bad_request' },
  {
    title: 'a header name with a space',
    bytes: head(BEAT, 'Transfer-Encoding : chunked'),
    status: 400,
    code: 'bad_request',
  },
  {
    title: 'a head above 8 KiB',
    bytes: head(GET, `X-Large: ${'a'.repeat(9 * 1024)}`),
    status: 431,
    code: 'headers_too_large',
  },
  {
    title: 'too many headers',
    bytes: head(GET, ...Array.from({ length: 200 }, (_, index) => `X-${index}: a`)),
    status: 431,
    code: 'headers_too_large',
  },
  {
    title: 'an unknown expectation',
    bytes: head(GET, 'Expect: the-unexpected'),
    status: 417,
    code: 'expectation_failed',
  },
  {
    title: 'a broken chunk',
    bytes: `${head('POST /v1/enroll-tokens HTTP/1.1', AUTHORIZED, 'Transfer-Encoding: chunked')}zz\r\n`,
    status: 400,
    code: 'bad_request',
    route: '/v1/enroll-tokens',
  },
  {
    title: 'a body of many chunks of one byte',
    bytes: `${head('POST /v1/enroll-tokens HTTP/1.1', AUTHORIZED, 'Transfer-Encoding: chunked')}${'1\r\n \r\n'.repeat(300)}`,
    status: 413,
    code: 'body_too_large',
    route: '/v1/enroll-tokens',
  },
  {
    title: 'an upgrade with a chunked body',
    bytes: `${head('POST /v1/enroll-tokens HTTP/1.1', AUTHORIZED, 'Transfer-Encoding: chunked', 'Connection: upgrade', 'Upgrade: h2c')}0\r\n\r\n`,
    status: 400,
    code: 'bad_request',
    route: '/v1/enroll-tokens',
  },
  {
    title: 'a parameter that is no UTF-8',
    bytes: head('GET /admin/devices/%ff HTTP/1.1', AUTHORIZED),
    status: 400,
    code: 'bad_path',
  },
]
