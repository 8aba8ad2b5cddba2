/** The simulator's HTTP client, with a new connection per request, as phones in the field have. */
import { type IncomingHttpHeaders, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** With its query, sent unchanged, including double slashes. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
  /** Receives the body of a 200 in pieces; `bytes` stays empty then. */
  readonly sink?: (piece: Uint8Array) => void
}

export interface HttpResponse {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly bytes: Buffer
}

/** Rejects without a whole response. */
export type Send = (request: HttpRequest) => Promise<HttpResponse>

/** The fielded agent's read time-out. */
const READ_TIMEOUT_MS = 30_000

/** `origin` such as `http://127.0.0.1:8080`, without a path. */
export function createSend(origin: string, readTimeoutMs = READ_TIMEOUT_MS): Send {
  const open = origin.startsWith('https:') ? requestHttps : requestHttp
  const { hostname, port } = new URL(origin)
  const host = hostname.replace(/^\[|\]$/g, '')

  return (request) =>
    new Promise((resolve, reject) => {
      const outgoing = open(
        {
          host,
          port,
          method: request.method,
          path: request.path,
          agent: false,
          timeout: readTimeoutMs,
          headers: {
            ...(request.body !== undefined && {
              'content-length': String(Buffer.byteLength(request.body)),
            }),
            ...request.headers,
          },
        },
        (incoming) => {
          const { statusCode: status = 0, headers } = incoming
          const pieces: Uint8Array[] = []
          const take = (status === 200 && request.sink) || ((piece) => void pieces.push(piece))
          incoming.on('data', take)
          incoming.on('end', () => resolve({ status, headers, bytes: Buffer.concat(pieces) }))
          incoming.on('error', reject)
        },
      )
      outgoing.on('timeout', () => {
        outgoing.destroy(new Error(`no answer within ${readTimeoutMs} ms`))
      })
      outgoing.on('error', reject)
      outgoing.end(request.body)
    })
}

export type JsonObject = Readonly<Record<string, unknown>>

/** The response's JSON object; empty without one. */
export function bodyOf(response: HttpResponse): JsonObject {
  try {
    return asJsonObject(JSON.parse(response.bytes.toString('utf8'))) ?? {}
  } catch {
    return {}
  }
}

export function asJsonObject(value: unknown): JsonObject | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  return value as JsonObject // a JSON object, checked in the line above
}

/** The text under `name`; empty without one. */
export function textOf(object: JsonObject, name: string): string {
  const value = object[name]
  return typeof value === 'string' ? value : ''
}

export function isSuccess({ status }: HttpResponse): boolean {
  return status >= 200 && status < 300
}

/** X-Request-ID; empty without one. */
export function requestIdOf({ headers }: HttpResponse): string {
  return String(headers['x-request-id'] ?? '')
}

export function jsonHeaders(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
}
