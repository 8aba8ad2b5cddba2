/** One HTTP request of a test, and its whole answer, which must be one that openapi.json describes. The secrets in both are remembered. */
import { mustBeDocumented } from './contract.ts'
import { rememberBody, rememberHeaders, rememberSecret } from './secrets.ts'

export interface CallOptions {
  /** Bearer token; null sends none. */
  readonly token?: string | null
  /** Sent as JSON. */
  readonly body?: unknown
  /** Sent as it is. */
  readonly raw?: string | Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

export interface TestResponse {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly bytes: Uint8Array
  /** Parsed JSON; undefined where the answer is none. Untyped: tests read what the contract names. */
  // biome-ignore lint/suspicious/noExplicitAny: a test asserts on it
  readonly body: any
  /** X-Request-ID of the answer. */
  readonly requestId: string
}

export async function call(
  origin: string,
  method: string,
  path: string,
  options: CallOptions = {},
): Promise<TestResponse> {
  rememberSecret(options.token)
  rememberHeaders(options.headers)
  rememberBody(options.body)
  const payload = options.raw ?? (options.body === undefined ? null : JSON.stringify(options.body))
  const response = await fetch(origin + path, {
    method,
    headers: {
      ...(options.token != null && { authorization: `Bearer ${options.token}` }),
      ...(options.body !== undefined && { 'content-type': 'application/json' }),
      ...options.headers,
    },
    body: payload,
    redirect: 'manual',
  })
  const bytes = new Uint8Array(await response.arrayBuffer())
  const text = Buffer.from(bytes).toString('utf8')
  const isJson = /json/.test(response.headers.get('content-type') ?? '') && text !== ''
  const body = isJson ? JSON.parse(text) : undefined
  rememberBody(body)
  const { status, headers } = response
  const header = (name: string) => headers.get(name) ?? undefined
  mustBeDocumented({ method, path }, { status, header, text })
  return {
    status,
    headers,
    text,
    bytes,
    body,
    requestId: response.headers.get('x-request-id') ?? '',
  }
}
