/**
 * An endpoint: its row in the route table, the request that its handler receives and the reply that it returns.
 * Handlers never see `res`: they return a Reply or throw an AppError, from which http/handle-request.ts and
 * http/exchange.ts make the response and its line.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import type { FailedCall } from '../domain/failed-call.ts'
import type { AdminScope, Caller, Downloader, LiveDevice } from '../domain/identity.ts'
import type { Recipient } from '../domain/recipient.ts'
import type { SignedRequest } from '../security/signature.ts'
import type { Line, LineContext } from '../telemetry/log/log.ts'

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** What is known of a request so far; guards and handlers fill in its caller. */
export interface RequestContext extends LineContext, Caller {
  /** The id at arrival, returned as `X-Request-ID` whatever `requestId` becomes. */
  readonly ingressId: string
  /** The id in the log lines: the command's, if the request made or ended one. */
  requestId: string
  readonly route: string
  readonly isProbe: boolean
  readonly ip: string | null
  readonly userAgent: string | null
  deviceId: string | null
  alias: string | null
  /** The enrollment token is not active: anyone who has found it can send any number of requests. */
  isTokenDead: boolean
}

/** The `route` of a request for which the table has no path. */
export const UNMATCHED = 'unmatched'

/** The context of a request that has just arrived. */
export function newContext(
  id: string,
  route: string,
  isProbe: boolean,
  ip: string | null,
  userAgent: string | null,
): RequestContext {
  return {
    ingressId: id,
    requestId: id,
    route,
    isProbe,
    ip,
    userAgent,
    deviceId: null,
    alias: null,
    admin: null,
    tokenId: null,
    isTokenDead: false,
  }
}

/** The ingress id, if the log lines carry another one. */
export function httpRequestId({ ingressId, requestId }: RequestContext): string | null {
  return ingressId === requestId ? null : ingressId
}

/** What every handler receives. */
export interface BaseRequest {
  /** As sent. A HEAD gets the response of its GET, without the body. */
  readonly method: string
  /** Decoded path parameters by name. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  /**
   * Parsed JSON; undefined without a body. Read it through http/fields.ts, which never reaches a prototype. It is parsed at each
   * access and may take 28 times its size: read it once, before the first `await`, and keep only what you need.
   */
  readonly body: unknown
  /** The raw body of a route with `body: 'stream'`; it has its own timeouts. */
  readonly upload: Readable
  readonly context: RequestContext
  /** What an X-Signature of this request covers. */
  readonly signed: SignedRequest
  /** The response is out, or the client has left. */
  readonly isEnded: boolean
  /** Aborted when the client leaves before the response is out, and when the server stops. */
  readonly signal: AbortSignal
  /** Writes a line in the context of this request, or of the command `requestId`. Never the terminal line. */
  log(line: Line, requestId?: string): void
}

/** What each guard proves. */
export interface Proven {
  /** Anyone. */
  readonly open: object
  /** A device token with our tag, not looked up: the handler's own statement authenticates it. */
  readonly 'device-token': { readonly tokenHash: Buffer }
  /** A live device. */
  readonly device: LiveDevice & { readonly tokenHash: Buffer }
  /** An enrollment token with our tag, or one that the database knows: registration judges and consumes it atomically. */
  readonly 'enrollment-token': { readonly tokenHash: Buffer }
  /** An admin who has one of the route's scopes. */
  readonly admin: { readonly admin: string }
  /** An enrollment token that is neither expired nor revoked, a live device, or an admin with scope `apk`. */
  readonly downloader: { readonly downloader: Downloader }
}

export type GuardName = keyof Proven

/** A request as the handlers behind a guard receive it. */
export type Request<G extends GuardName> = BaseRequest & Proven[G]

interface Shape<G extends GuardName> {
  readonly method: Method
  /** Path template, such as `/admin/commands/{request_id}`; also the `route` of lines and metrics. */
  readonly path: string
  readonly guard: G
  /** Largest JSON body in bytes; 0 = no body is read. `stream`: the handler reads `upload`. */
  readonly body: number | 'stream'
  /** A health probe comes from inside, in plaintext and often: its lines are DEBUG, and it never waits. */
  readonly isProbe?: boolean
}

interface AdminShape extends Shape<'admin'> {
  /** Any one of them suffices; scope `admin` always does. */
  readonly scopes: readonly AdminScope[]
  /** All names that the route knows; http/known-names.ts refuses any other before the handler runs. */
  readonly takes: Names | 'anything'
}

/** What a request may name. */
export interface Names {
  readonly query: readonly string[]
  /** Of the JSON body. */
  readonly fields: readonly string[]
}

export const NO_NAMES: Names = { query: [], fields: [] }

/** An endpoint as data: a row of routes/table.ts. */
export type RouteShape = Shape<Exclude<GuardName, 'admin'>> | AdminShape

/** The code of an endpoint. */
export interface Endpoint<G extends GuardName> {
  handle(request: Request<G>): Promise<Reply>
  /** The terminal line of a failure, if the route has one of its own; `reason` is the error code, 499 means that the client left. */
  failLine?(
    reason: string,
    statusCode: number,
    context: RequestContext,
    failedCall: FailedCall,
  ): Line | undefined
}

export type AdminRoute = AdminShape & Endpoint<'admin'>
export type Route =
  | AdminRoute
  | {
      [G in Exclude<GuardName, 'admin'>]: Shape<G> & Endpoint<G>
    }[Exclude<GuardName, 'admin'>]

interface ReplyHead {
  readonly status: number
  /** Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>
  /** The terminal line, if it is not `http.request`. */
  readonly line?: Line
}

export interface JsonReply extends ReplyHead {
  readonly kind: 'json'
  readonly body: unknown
}
export interface TextReply extends ReplyHead {
  readonly kind: 'text'
  readonly text: string
  readonly contentType: string
}
export interface EmptyReply extends ReplyHead {
  readonly kind: 'empty'
}

/** How a streamed response ended. */
export interface StreamEnding {
  /** Bytes of the body handed to the socket. */
  readonly bytesSent: number
  /** The whole body was handed to the socket, and the connection was still open. */
  readonly isWhole: boolean
  /** For the log: the status of the response, or 499 if the client left. */
  readonly statusCode: number
}

export interface StreamReply extends Omit<ReplyHead, 'line'> {
  readonly kind: 'stream'
  /**
   * The body, read as fast as the client takes it; HEAD never starts it. null: the status has none (304). The next chunk may
   * reuse the memory of the one before.
   */
  readonly stream: AsyncIterable<Uint8Array> | null
  /** Exact length of the body in bytes; null leaves `content-length` out (304). */
  readonly sizeBytes: number | null
  /** Called once, before the first byte of the body; not for a HEAD, and not if the client has left. */
  started?(recipient: Recipient): void
  /** Called once, however the response ends; returns the terminal line. */
  ended(ending: StreamEnding): Promise<Line>
}

/** A response that goes on until its source ends or the client leaves, which is no failure. */
export interface LiveReply extends ReplyHead {
  readonly kind: 'live'
  readonly contentType: string
  /** Ends soon after the request's `signal` is aborted; HEAD never starts it. */
  readonly chunks: AsyncIterable<string>
  /** Called if the client takes too long to read a chunk; it is cut off. */
  dropped(): void
}

export type Reply = JsonReply | TextReply | EmptyReply | StreamReply | LiveReply

export function json(status: number, body: unknown, line?: Line): JsonReply {
  return line === undefined ? { kind: 'json', status, body } : { kind: 'json', status, body, line }
}
