/** What every response must be, for any request (openapi.json). */
import { STATUS } from '../../src/http/errors.ts'
import { isLive, type StrictResponse } from '../../testkit/http/strict-reader.ts'
import type { FuzzRequest } from './requests.ts'

const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/
const RETRY_AFTER = /^[1-9]\d{0,4}$/
const INTERNALS = /\bselect\b.*\bfrom\b|\.[jt]s:\d|node_modules|\bat \w+ \(|\bpg_|sqlstate/i
const OUR_TROUBLE = new Set(['overloaded', 'db_unavailable'])
const CODES: Readonly<Record<string, number>> = STATUS

/** Returns what is wrong with the response. */
export function judge(request: FuzzRequest, response: StrictResponse): readonly string[] {
  const { status, headers, body } = response
  if (status === 100) return []
  const faults: string[] = []
  const must = (holds: boolean, what: string) => {
    if (!holds) faults.push(`${status}: ${what}`)
  }
  const requestId = headers.get('x-request-id') ?? ''
  must(REQUEST_ID.test(requestId), `X-Request-ID ${JSON.stringify(requestId)}`)
  must(headers.get('x-content-type-options') === 'nosniff', 'no nosniff')
  must(headers.get('cache-control') === 'no-store', 'no no-store')
  must(!headers.has('server') && !headers.has('x-powered-by'), 'it says what serves')
  must(isLive(response) || !headers.has('transfer-encoding'), 'an answer without its length')
  if (status === 405) must(/^[A-Z, ]+$/.test(headers.get('allow') ?? ''), 'no Allow')
  if (status === 429 || status === 503) {
    must(RETRY_AFTER.test(headers.get('retry-after') ?? ''), 'no Retry-After')
  }
  const code = codeOf(response, requestId, must)
  must(status < 500 || isAllowed5xx(request, status, code), `${code}, which nothing explains`)
  if (request.isMutated) return faults
  const isOwn = request.id === null || requestId === request.id || isOfParser(response, code)
  must(isOwn, `the answer to ${requestId}`)
  if (request.isProven) must(status !== 401, `a good credential is ${code}`)
  if (request.isHeartbeat) must(status === 200 || status === 503, `a heartbeat is refused: ${code}`)
  must(status !== 408, 'a whole request took too long')
  must(!INTERNALS.test(body), 'internals')
  return faults
}

/** Whether it is a request without a body, damaged or not, which must get a response. */
export function isWholeHead(text: string): boolean {
  const begun = text.replace(/^[\r\n]+/, '')
  return begun.includes('\r\n\r\n') && !/content-length|transfer-encoding/i.test(begun)
}

/** The parser refuses before it has headers: the id is the service's own. */
function isOfParser({ headers }: StrictResponse, code: string | null): boolean {
  const isCode = ['bad_request', 'headers_too_large', 'body_too_large', null].includes(code)
  return isCode && headers.get('connection') === 'close'
}

/** null if the response is no problem, or has no body. */
export function problemCode(response: StrictResponse): string | null {
  if (response.status < 400 || response.body === '') return null
  return String(parsed(response.body)?.['code'] ?? null)
}

function codeOf(
  response: StrictResponse,
  requestId: string,
  must: (holds: boolean, what: string) => void,
): string | null {
  const { status, headers, body } = response
  const type = headers.get('content-type') ?? ''
  if (body === '') return null // HEAD, 204, 304
  if (status < 400) {
    if (type.startsWith('application/json')) must(parsed(body) !== undefined, 'no JSON object')
    return null
  }
  const problem = parsed(body)
  must(type === 'application/problem+json' && problem !== undefined, `no problem but ${type}`)
  const code = String(problem?.['code'])
  must(CODES[code] === status && problem?.['status'] === status, `the code ${code}`)
  must(problem?.['type'] === 'about:blank' && typeof problem['title'] === 'string', 'type, title')
  must(typeof problem?.['detail'] === 'string' && problem['detail'] !== '', 'no detail')
  must(problem?.['request_id'] === requestId, 'another request_id')
  must(
    status !== 422 || Array.isArray(problem?.['errors']) || code !== 'invalid_field',
    'no errors',
  )
  return code
}

function isAllowed5xx(
  { bytes, isForgotten }: FuzzRequest,
  status: number,
  code: string | null,
): boolean {
  if (code === 'not_provisioned') return isForgotten
  // HEAD hides the code; the log lines are judged instead.
  if (status === 503) return code === null || OUR_TROUBLE.has(code)
  return status === 501 && /transfer-encoding/i.test(bytes.toString('latin1'))
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as Readonly<Record<string, unknown>>) : undefined // checked
  } catch {
    return undefined
  }
}
