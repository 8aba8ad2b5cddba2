/** Calls the admin API, one request at a time, with a sentence for each failure. */
import { createHash, createHmac, randomUUID } from 'node:crypto'
import { plain } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { type Connection, FLEETLOOP_URL } from './connection.ts'
import { OPERATIONS, type Operations } from './openapi.ts'

export type Operation = keyof Operations
export type RequestOf<K extends Operation> = Operations[K]['request']
export type ResponseOf<K extends Operation> = Operations[K]['response']

/** Timeout of one request beyond what it waits for itself (`wait_ms`), milliseconds. */
const TIMEOUT_MS = 10_000

/** `refused`: the service says no (4xx). `unavailable`: it cannot serve, or nothing of ours responds. */
export type Failure = 'refused' | 'unavailable'

/** Its message is complete for the reader. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly failure: Failure
  /** Of the problem in the response; undefined if it was none of ours. */
  readonly code: string | undefined

  constructor(message: string, failure: Failure, code?: string) {
    super(message)
    this.failure = failure
    this.code = code
  }
}

export interface Api {
  /** Throws ApiError for anything but a success. */
  call<K extends Operation>(operation: K, request: RequestOf<K>): Promise<ResponseOf<K>>
  /** undefined for 404. */
  find<K extends Operation>(operation: K, request: RequestOf<K>): Promise<ResponseOf<K> | undefined>
  /** Why /readyz is 503, one reason a line; empty: the service is ready. */
  unreadiness(): Promise<readonly string[]>
  /** The service's clock at its latest response; throws before the first. */
  now(): Date
  readonly origin: string
}

export interface Deadline {
  readonly ms: number
  /** Aborts after that, with a TimeoutError. */
  readonly signal: AbortSignal
}

interface Problem {
  readonly code?: string
  readonly detail?: string
  readonly request_id?: string
  readonly reasons?: Readonly<Record<string, string>>
  readonly errors?: readonly { readonly field: string; readonly message: string }[]
}

interface Call {
  readonly path?: Readonly<Record<string, string>>
  readonly query?: Readonly<Record<string, string | number | undefined>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

export interface Received {
  readonly status: number
  readonly body: unknown
}

/** `deadline`: of all calls together. */
export function createApi(connection: Connection, deadline?: Deadline): Api {
  const { origin } = connection
  let now: Date | undefined

  async function send(method: string, target: string, call: Call): Promise<Received> {
    const body = call.body === undefined ? undefined : JSON.stringify(call.body)
    const waitMs = Number(call.query?.['wait_ms'] ?? 0)
    try {
      const response = await fetch(origin + target, {
        method,
        headers: {
          ...call.headers,
          ...headersOf(connection, method, target, sha256(body ?? '')),
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        ...(body !== undefined && { body }),
        signal: AbortSignal.any([
          AbortSignal.timeout(TIMEOUT_MS + waitMs),
          ...(deadline === undefined ? [] : [deadline.signal]),
        ]),
        redirect: 'error',
      })
      now = new Date(response.headers.get('date') ?? Date.now())
      return { status: response.status, body: parsed(await response.text()) }
    } catch (error) {
      throw foreignResponse(origin, reasonOf(error, deadline?.ms))
    }
  }

  async function perform(operation: Operation, call: Call): Promise<Received> {
    const { method } = OPERATIONS[operation]
    const received = await send(method, targetOf(operation, call), call)
    if (isOurs(operation, received)) return received
    if (received.status < 300)
      throw foreignResponse(origin, `${received.status} of another service`)
    const problem: Problem = Object(received.body)
    if (received.status !== 503 || problem.code === undefined) throw failureOf(origin, received)
    const reasons = await unreadiness()
    const more = reasons.length === 0 ? ofThisCall(problem) : ofAll(reasons)
    throw new ApiError(describe(origin, received) + more, 'unavailable', problem.code)
  }

  async function unreadiness(): Promise<readonly string[]> {
    const { status, body } = await send('GET', OPERATIONS.readyz.path, {})
    const { reasons = {} }: Problem = Object(body)
    const lines = Object.entries(reasons).map(([part, reason]) => plain(`${part}: ${reason}`))
    return status === 200 || lines.length > 0 ? lines : [`/readyz is ${status}`]
  }

  async function find<K extends Operation>(operation: K, request: RequestOf<K>) {
    try {
      return await call(operation, request)
    } catch (error) {
      if (error instanceof NotFoundError) return undefined
      throw error
    }
  }

  async function call<K extends Operation>(operation: K, request: RequestOf<K>) {
    const { body } = await perform(operation, request)
    return body as ResponseOf<K> // openapi.json of the same release guarantees the form
  }

  function serviceNow(): Date {
    if (now === undefined)
      throw new Error("the service's clock is unknown before its first response")
    return now
  }

  return { origin, now: serviceNow, call, find, unreadiness }
}

/** undefined: no JSON, such as the page of a proxy. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A success with what openapi.json requires of it; an older release may lack a part. Another service may run at that address. */
export function isOurs(operation: Operation, { status, body }: Received): boolean {
  const keys: readonly string[] = OPERATIONS[operation].keys
  if (keys.length === 0) return status === 204
  return status < 300 && keys.some((key) => Object(body)[key] !== undefined)
}

/** The response is a problem with status 404. */
class NotFoundError extends ApiError {}

/** Of a response that is no success. */
export function failureOf(origin: string, received: Received): ApiError {
  const { status } = received
  const { code }: Problem = Object(received.body)
  if (code === undefined) return foreignResponse(origin, `${status}`)
  const text = describe(origin, received)
  if (status === 404) return new NotFoundError(text, 'refused', code)
  if (status >= 500) return new ApiError(text, 'unavailable', code)
  return new ApiError(status === 401 ? `${text} ${doubtOf(code)}` : text, 'refused', code)
}

function doubtOf(code: string): string {
  if (code !== 'signature_invalid') return 'FLEETLOOP_TOKEN?'
  return "Is ADMIN_HMAC_SECRET the service's, and is this machine's clock right?"
}

function describe(origin: string, { status, body }: Received): string {
  const { code, detail, errors = [] }: Problem = Object(body)
  const fields = errors.map(({ field, message }) => `\n  ${plain(`${field}: ${message}`)}`)
  return plain(`${origin} answers ${status} ${code}: ${detail}`) + fields.join('')
}

export function foreignResponse(origin: string, response: string): ApiError {
  const text = `${origin} gives no answer of ours: ${plain(response)}. ${FLEETLOOP_URL}?`
  return new ApiError(text, 'unavailable')
}

/** Of an enrollment or a device token. It must not get into a URL, which proxies log. */
const SECRET = /(?<![\w-])[ed]t_[\w-]{43}(?![\w-])/

/** Path and query. Throws UsageError for a secret. */
export function targetOf(operation: Operation, { path = {}, query = {} }: Call): string {
  const filled = OPERATIONS[operation].path.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(path[name] ?? ''),
  )
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) given.set(name, String(value))
  }
  if (SECRET.test(Object.values({ ...path, ...query }).join('\n'))) {
    throw new UsageError('That is a token itself, a secret: give its TOKEN ID (fleetloop tokens).')
  }
  return given.size === 0 ? filled : `${filled}?${given}`
}

/** The credential and, with ADMIN_HMAC_SECRET, the signature of a change. */
export function headersOf(
  { token, hmacSecret }: Connection,
  method: string,
  target: string,
  bodySha256: string,
): Readonly<Record<string, string>> {
  const authorization = `Bearer ${token}`
  if (hmacSecret === undefined || method === 'GET') return { authorization }
  const timeS = Math.floor(Date.now() / 1_000)
  // A signature is good once: the id keeps the same call within the same second from repeating it.
  const requestId = randomUUID()
  const text = [timeS, method, target, requestId, bodySha256].join('\n')
  const signature = createHmac('sha256', hmacSecret).update(text).digest('hex')
  return {
    authorization,
    'x-request-id': requestId,
    'x-signature': `t=${timeS},v1=${signature}`,
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/** No request is served. */
function ofAll(reasons: readonly string[]): string {
  return ` Phones are told the same.${reasons.map((reason) => `\n  ${reason}`).join('')}`
}

/** The service is ready, but this call found no connection or its statement took too long. Only the log names it. */
function ofThisCall({ request_id = '' }: Problem): string {
  const filter = `select(.request_id == "${plain(request_id)}") | {statement, cause}`
  return ` The database is there (/readyz is 200), others are served.\n  what kept it: jq -c '${filter}' "$LOG"`
}

/** fetch only says `fetch failed`; the reason is in its cause, or in the cause's first error. */
export function reasonOf(error: unknown, timeoutMs = TIMEOUT_MS): string {
  const { name, message, cause } = Object(error)
  if (name === 'TimeoutError') return `none within ${timeoutMs / 1_000} s`
  const { code, errors, message: reason } = Object(cause)
  const [first] = Array.isArray(errors) ? errors : []
  return String(code ?? Object(first).code ?? (reason || message || error))
}
