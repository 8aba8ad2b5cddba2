/** The request that a handler receives. Getters make what few handlers need. */
import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import type { SignedRequest } from '../security/signature.ts'
import type { Line } from '../telemetry/log/log.ts'
import { openUpload, type PendingBodies, parseJson, readBytes, refuseBody } from './body/body.ts'
import type { Exchange } from './exchange.ts'
import type { BaseRequest, RequestContext, Route } from './route.ts'

const NO_BYTES = Buffer.alloc(0)

/** Reads the body: JSON of at most `body` bytes; 0: none; `stream`: the handler reads it. */
export async function readBody(
  exchange: Exchange,
  body: Route['body'],
  pending: PendingBodies,
): Promise<Buffer> {
  const { request } = exchange
  if (body !== 0) refuseBody(request, body === 'stream' ? undefined : body)
  if (typeof body !== 'number' || body === 0) return NO_BYTES
  exchange.continue()
  return await readBytes(request, body, pending)
}

export class HandlerRequest implements BaseRequest {
  readonly method: string
  readonly params: Readonly<Record<string, string>>
  readonly headers: IncomingHttpHeaders
  readonly context: RequestContext
  /** The query as sent, without `?`. */
  readonly search: string
  /** The JSON body as sent. */
  readonly bytes: Buffer
  readonly #exchange: Exchange

  constructor(
    exchange: Exchange,
    params: Readonly<Record<string, string>>,
    search: string,
    bytes: Buffer,
  ) {
    this.#exchange = exchange
    this.search = search
    this.bytes = bytes
    this.method = exchange.request.method ?? ''
    this.params = params
    this.headers = exchange.request.headers
    this.context = exchange.context
  }

  get body(): unknown {
    return parseJson(this.bytes)
  }

  get query(): URLSearchParams {
    return new URLSearchParams(this.search)
  }

  get upload(): Readable {
    return openUpload(this.#exchange.request, () => this.#exchange.continue())
  }

  get signal(): AbortSignal {
    return this.#exchange.signal
  }

  get isEnded(): boolean {
    return this.#exchange.isEnded
  }

  get signed(): SignedRequest {
    return signedRequest(this.#exchange.request, this.bytes)
  }

  log(line: Line, requestId?: string): void {
    this.#exchange.log(line, requestId)
  }
}

function signedRequest(request: IncomingMessage, bytes: Buffer): SignedRequest {
  const { headers } = request
  const text = (name: string) => String(headers[name] ?? '')
  return {
    header: headers['x-signature'] === undefined ? undefined : text('x-signature'),
    method: request.method ?? '',
    url: request.url ?? '',
    requestIdHeader: text('x-request-id'),
    bodySha256:
      request.method === 'PUT'
        ? text('x-apk-sha256')
        : createHash('sha256').update(bytes).digest('hex'),
  }
}
