/**
 * The life of a request, the same for every route: head checks, route, transport rule, guard, body, handler, reply.
 * Anything thrown on the way becomes the response here; the exchange writes the line.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { AppError } from '../domain/errors.ts'
import type { AtFailpoint } from '../domain/failpoint.ts'
import { subnetOfClient } from '../lib/subnet.ts'
import type { Throttle } from '../lib/throttle.ts'
import { type Match, Router } from '../router.ts'
import { Denial } from '../security/denial.ts'
import type { Guards } from '../security/guard.ts'
import type { SignedRequest } from '../security/signature.ts'
import type { HashedToken } from '../security/token-turns.ts'
import { ClientGoneError, type PendingBodies } from './body/body.ts'
import type { ComplexBodies } from './body/complex-bodies.ts'
import { type HttpsRule, isTransportAllowed, peerAddress } from './client-address.ts'
import { connectionOf } from './connection/connection.ts'
import { toAppError } from './errors.ts'
import type { Exchange } from './exchange.ts'
import { refuseUnknown } from './known-names.ts'
import type { Exchanges } from './open-exchanges.ts'
import { HandlerRequest, readBody } from './request.ts'
import type { Reply, Route } from './route.ts'
import { refuseMalformed } from './well-formed.ts'

export interface HandlingDeps {
  readonly routes: readonly Route[]
  readonly guards: Guards
  /** Throws unless an admin's change is signed, where signatures are required. */
  readonly verifyAdmin: (request: SignedRequest) => Promise<void>
  readonly failpoint?: AtFailpoint | undefined
  /** null: plaintext is fine from anywhere (REQUIRE_HTTPS=false). */
  readonly httpsRule: HttpsRule | null
  /** Why only health probes can be served now: the service is still starting. */
  readonly unavailable: () => AppError | undefined
}

export type Serve = (
  request: IncomingMessage,
  res: ServerResponse,
  expects: Expectation,
) => Promise<void>

/** Its header Expect: none, `100-continue`, or another one. */
export type Expectation = 'nothing' | 'continue' | 'unknown'

/** The queues in which a request may wait. */
export interface Waits {
  /** Turns of the event loop, for the first request of a connection. */
  readonly turns: Throttle
  /** Turns of pipelined requests. */
  readonly pipelined: Throttle
  /** Turns of clients whose last request was refused. */
  readonly refused: Throttle
  readonly bodies: PendingBodies
  readonly complexBodies: ComplexBodies
}

export function createHandling(deps: HandlingDeps, exchanges: Exchanges, waits: Waits): Serve {
  const router = new Router(deps.routes)
  const { turns, pipelined, refused } = waits

  return async function serve(request, res, expects) {
    const url = request.url ?? ''
    const queryAt = url.indexOf('?')
    const path = queryAt === -1 ? url : url.slice(0, queryAt)
    const match = expects === 'unknown' ? NOT_FOUND : router.find(request.method ?? '', path)
    const exchange = exchanges.open(request, res, match)
    exchange.awaitsContinue = expects === 'continue'
    const connection = connectionOf(request.socket)
    const { ip, isProbe } = exchange.context
    const malformed = refuseMalformed(request)
    // Where it ends may be unclear: the parser is about to report an error, which says less.
    if (malformed !== undefined && exchange.isLast) return exchange.refuse(malformed)
    const isOver = () => exchange.isOver
    const isBehind = connection.hasBefore(exchange)
    if (isBehind) await connection.untilOldest(exchange)
    else if (connection.isNew && !isProbe) await turns.turn(isOver, subnetOfClient(ip))
    // No honest client pipelines: these wait for everybody else, so that a burst of them holds nobody up.
    if (isBehind || connection.isPipelining) await pipelined.turn(isOver)
    else if (connection.wasRefused(ip) && !isProbe) await refused.turn(isOver, subnetOfClient(ip))
    if (exchange.isOver) return
    try {
      if (expects === 'unknown') throw expectationFailed()
      if (malformed !== undefined) throw malformed
      if (!isProbe) refuseTransport(request, deps.httpsRule)
      if (match.kind !== 'found') throw unmatched(match)
      const unavailable = isProbe ? undefined : deps.unavailable()
      if (unavailable !== undefined) throw unavailable
      const search = queryAt === -1 ? '' : url.slice(queryAt + 1)
      const reply = await handle(deps, waits, exchange, match.route, match.params, search)
      deps.failpoint?.('after_commit_before_reply')
      exchange.reply(reply)
    } catch (error) {
      if (exchange.hasResponse) return
      // The client has left and reads no response: the exchange ends with 499.
      if (error instanceof ClientGoneError) res.destroy()
      else exchange.refuse(toAppError(error))
    }
  }
}

/**
 * Guard, body, handler. `Object.assign` adds what the guard proves to the request, because a spread would call every getter.
 * A device's body is read outside of its token's turns: four bodies that stall, as where a phone loses its network, would
 * keep the phone's next requests waiting for ten seconds. No phone's request that waits holds a parsed body.
 */
async function handle(
  { guards, verifyAdmin }: HandlingDeps,
  { bodies, complexBodies }: Waits,
  exchange: Exchange,
  route: Route,
  params: Readonly<Record<string, string>>,
  search: string,
): Promise<Reply> {
  const { context } = exchange
  const { headers } = exchange.request
  const readBytes = () => readBody(exchange, route.body, bodies)
  const requestOf = (bytes: Buffer) => new HandlerRequest(exchange, params, search, bytes)
  const read = async () => requestOf(await readBytes())
  /** `start` calls the handler, which parses the body. */
  const handleBody = (
    bytes: Buffer,
    token: HashedToken,
    start: (request: HandlerRequest) => Promise<Reply>,
  ) =>
    complexBodies.run({ bytes, token, isOver: () => exchange.isOver }, async () => {
      if (exchange.isOver) throw new ClientGoneError('the client left while its request waited')
      return await start(requestOf(bytes))
    })
  switch (route.guard) {
    case 'open':
      return route.handle(await read())
    case 'device-token': {
      const token = await guards.deviceToken(headers)
      const bytes = await readBytes()
      return guards.inTurn(token, () =>
        handleBody(bytes, token, (request) => route.handle(Object.assign(request, token))),
      )
    }
    case 'device': {
      const token = await guards.deviceToken(headers)
      const proven = await guards.inTurn(token, () => guards.device(token, context))
      const bytes = await readBytes()
      return guards.inTurn(token, () =>
        handleBody(bytes, token, (request) => route.handle(Object.assign(request, proven))),
      )
    }
    case 'enrollment-token': {
      const proven = await guards.enrollmentToken(headers, context)
      const bytes = await readBytes()
      return handleBody(bytes, proven, (request) => route.handle(Object.assign(request, proven)))
    }
    case 'admin': {
      const proven = guards.admin(headers, route.scopes, context)
      const request = await read()
      await verifyAdmin(request.signed)
      await refuseUnknown(route, request, exchange, bodies)
      return route.handle(Object.assign(request, proven))
    }
    case 'downloader': {
      const proven = await guards.downloader(headers, context)
      return route.handle(Object.assign(await read(), proven))
    }
  }
}

function refuseTransport(request: IncomingMessage, rule: HttpsRule | null): void {
  if (rule === null) return
  const peer = peerAddress(request.socket.remoteAddress)
  if (isTransportAllowed(peer, request.headers, rule)) return
  throw new Denial('https_required', 'This service is served over HTTPS only.', {
    event: 'sec.https.enforced',
    fields: { reason: 'plaintext', token_id: null },
  })
}

const NOT_FOUND = { kind: 'not_found' } as const

function expectationFailed(): AppError {
  return new AppError('expectation_failed', 'The only expectation served is 100-continue.')
}

function unmatched(match: Exclude<Match<Route>, { kind: 'found' }>): AppError {
  switch (match.kind) {
    case 'method_not_allowed':
      return new AppError('method_not_allowed', `This path takes ${match.allow}.`, {
        headers: { allow: match.allow },
      })
    case 'bad_path':
      return new AppError('bad_path', 'A part of the path is not valid percent-encoded UTF-8.')
    case 'not_found':
      return new AppError('not_found', 'Nothing is served under this path.')
  }
}
