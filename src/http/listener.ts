/**
 * The life of a request, the same for every route: edge checks, route, transport rule, guard, body,
 * handler, reply. What is thrown on the way becomes the answer in one place; the exchange writes the line.
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { AppError } from '../domain/errors.ts'
import type { AtFailpoint } from '../domain/failpoint.ts'
import { isRequestId } from '../domain/ids.ts'
import { LinkedList } from '../lib/linked-list.ts'
import { Throttle } from '../lib/throttle.ts'
import { type Match, Router } from '../router.ts'
import { Denial } from '../security/denial.ts'
import type { Guards } from '../security/guard.ts'
import type { SignedRequest } from '../security/signature.ts'
import type { Metrics } from '../telemetry/metrics/metrics.ts'
import { ClientGoneError, PendingBodies } from './body.ts'
import {
  clientAddress,
  createProxyNotice,
  type HttpsRule,
  isTransportAllowed,
  peerAddress,
} from './client-address.ts'
import { type Connection, connectionOf, isCutOff } from './connection/connection.ts'
import { boundConnections, type Connections } from './connection/connections.ts'
import { isTimeout, rawRefusal, respondRaw } from './connection/raw-response.ts'
import { toAppError } from './errors.ts'
import { Exchange, type ExchangeDeps } from './exchange.ts'
import { refuseUnknown } from './known-names.ts'
import { behindNewConnections } from './new-connections.ts'
import { readRequest } from './request.ts'
import { isProbe } from './request-lines.ts'
import type { Reply, RequestContext, Route } from './route.ts'
import { refuseMalformed } from './well-formed.ts'

export interface ListenerDeps extends Omit<ExchangeDeps, 'turns' | 'onOpen' | 'onEnd'> {
  readonly routes: readonly Route[]
  readonly guards: Guards
  /** Throws where an admin's change must be signed and is not. */
  readonly verifyAdmin: (request: SignedRequest) => Promise<void>
  readonly metrics: Pick<Metrics, 'route'>
  readonly newId: () => string
  readonly failpoint?: AtFailpoint | undefined
  /** null: plaintext is fine from anywhere (REQUIRE_HTTPS=false). */
  readonly httpsRule: HttpsRule | null
  readonly isTrustedProxy: (address: string) => boolean
  /** Why nothing but health can be answered now: still starting. */
  readonly unavailable: () => AppError | undefined
  readonly maxConnections: number
}

export interface Listener {
  readonly server: Server
  readonly connections: Connections
  /** Requests that have no terminal line yet. */
  readonly openExchanges: () => number
  /** 503 `shutting_down` to every request that has no answer yet. */
  readonly refuseOpen: () => void
}

const SERVER_OPTIONS = {
  headersTimeout: 10_000,
  requestTimeout: 0, // it would cut a steady upload: http/body.ts has its own clocks
  connectionsCheckingInterval: 100, // a turn makes an error each (20 µs) for all that came within as long
  keepAliveTimeout: 75_000, // above the idle time of common load balancers
  maxHeaderSize: 8_192,
  requireHostHeader: false, // refused at our edge, so that the answer carries X-Request-ID
  insecureHTTPParser: false,
  noDelay: true,
  joinDuplicateHeaders: true, // else Node drops the second date of a precondition, which RFC 9110 has us ignore
} as const
/** Pipelined requests that wait for their turn, on all connections; a further one ends its connection. */
const MAX_PIPELINED_WAITING = 512
const UNMATCHED = 'unmatched'

export function createListener(deps: ListenerDeps): Listener {
  // Node would end its side with the client's, and drop the answers that are not out; connection/connection.ts has the bound.
  const server = Object.assign(createServer(SERVER_OPTIONS), { httpAllowHalfOpen: true })
  const turns = behindNewConnections(server)
  const router = new Router(deps.routes)
  /** Resolved once, so that no path of a client ever makes a series. */
  const metricsOf = new Map(deps.routes.map(({ path }) => [path, deps.metrics.route(path)]))
  const unmatchedMetrics = deps.metrics.route(UNMATCHED)
  const openExchanges = new LinkedList<Exchange>()
  const slowRequests = new Throttle() // to refuse one takes 0.1 ms, and those that came together are late together
  const pipelined = new Throttle() // of its own: thousands that are late would crowd out who pipelines
  const bodies = new PendingBodies(deps.nowMs, slowRequests)
  // One listener, not one per request: signals derived from a long-lived one are never let go (Node 20).
  deps.closing.addEventListener('abort', () => {
    for (const exchange of openExchanges) exchange.stopWaiting()
  })
  const exchangeDeps: ExchangeDeps = {
    ...deps,
    turns,
    onOpen(exchange) {
      connectionOf(exchange.request.socket).opened(exchange)
      return openExchanges.add(exchange)
    },
    onEnd(exchange, place) {
      openExchanges.remove(place)
      connectionOf(exchange.request.socket).ended(exchange)
    },
  }
  const noticeProxy = createProxyNotice(deps.isTrustedProxy, deps.log)

  function open(request: IncomingMessage, res: ServerResponse, match: Match<Route>): Exchange {
    const route = 'route' in match ? match.route : undefined
    const context = newContext(request, route?.path ?? UNMATCHED)
    noticeProxy(request, context)
    const metrics = metricsOf.get(context.route) ?? unmatchedMetrics
    const found = match.kind === 'found' ? match.route : undefined
    return new Exchange(exchangeDeps, metrics, request, res, context, found)
  }

  function newContext(request: IncomingMessage, route: string): RequestContext {
    const given = request.headers['x-request-id']
    const id = typeof given === 'string' && isRequestId(given) ? given : deps.newId()
    const peer = peerAddress(request.socket.remoteAddress)
    return {
      ingressId: id,
      requestId: id,
      route,
      ip: clientAddress(peer, request.headers, deps.isTrustedProxy),
      userAgent: request.headers['user-agent'] ?? null, // cut where a line is built
      deviceId: null,
      alias: null,
      admin: null,
      tokenId: null,
    }
  }

  async function serve(
    request: IncomingMessage,
    res: ServerResponse,
    awaitsContinue: boolean,
  ): Promise<void> {
    const url = request.url ?? ''
    const queryAt = url.indexOf('?')
    const path = queryAt === -1 ? url : url.slice(0, queryAt)
    const match = router.find(request.method ?? '', path)
    const exchange = open(request, res, match)
    exchange.awaitsContinue = awaitsContinue
    const connection = connectionOf(request.socket)
    // Nobody who is honest pipelines: these wait, so that a burst of them holds nobody up.
    if (connection.hasBefore(exchange) && !(await hasTurn(pipelined, exchange))) return
    try {
      const refusal = refuseMalformed(request)
      if (refusal !== undefined) throw refusal
      refuseTransport(request, exchange.context.route)
      if (match.kind !== 'found') throw unmatched(match)
      const unavailable = isProbe(match.route.path) ? undefined : deps.unavailable()
      if (unavailable !== undefined) throw unavailable
      const mayWait = connection.isNew && !isProbe(match.route.path)
      if (mayWait && !(await hasTurn(turns, exchange))) return
      const search = queryAt === -1 ? '' : url.slice(queryAt + 1)
      const reply = await handle(exchange, match.route, match.params, search)
      deps.failpoint?.('after_commit_before_reply')
      exchange.reply(reply)
    } catch (error) {
      // The client is gone: nobody reads an answer, the exchange ends with 499.
      if (error instanceof ClientGoneError) res.destroy()
      else exchange.refuse(toAppError(error))
    }
  }

  /** Guard, body, handler. What is proven is assigned: a spread would ask every getter. */
  async function handle(
    exchange: Exchange,
    route: Route,
    params: Readonly<Record<string, string>>,
    search: string,
  ): Promise<Reply> {
    const { context } = exchange
    const { headers } = exchange.request
    const given = () => readRequest(exchange, route.body, params, search, bodies)
    switch (route.guard) {
      case 'open':
        return route.handle(await given())
      case 'device-token': {
        const proven = await deps.guards.deviceToken(headers)
        return route.handle(Object.assign(await given(), proven))
      }
      case 'device': {
        const proven = await deps.guards.device(headers, context)
        return route.handle(Object.assign(await given(), proven))
      }
      case 'enrollment-token': {
        const proven = await deps.guards.enrollmentToken(headers, context)
        return route.handle(Object.assign(await given(), proven))
      }
      case 'admin': {
        const proven = deps.guards.admin(headers, route.scopes, context)
        const request = await given()
        await deps.verifyAdmin(request.signed)
        await refuseUnknown(route, request, exchange, bodies)
        return route.handle(Object.assign(request, proven))
      }
      case 'downloader': {
        const proven = await deps.guards.downloader(headers, context)
        return route.handle(Object.assign(await given(), proven))
      }
    }
  }

  function refuseTransport(request: IncomingMessage, route: string): void {
    if (deps.httpsRule === null || isProbe(route)) return
    const peer = peerAddress(request.socket.remoteAddress)
    if (isTransportAllowed(peer, request.headers, deps.httpsRule)) return
    throw new Denial('https_required', 'This service is served over HTTPS only.', {
      event: 'sec.https.enforced',
      fields: { reason: 'plaintext', token_id: null },
    })
  }

  /** What the parser refused: no request, a broken body, or garbage behind a request. */
  function refuseRaw(error: NodeJS.ErrnoException, connection: Connection): void {
    const exchange = connection.newest
    if (exchange === undefined) {
      respondRaw(error, connection, { ...deps, metrics: unmatchedMetrics })
    } else if (exchange.request.complete) {
      exchange.closeAfterResponse() // what it did may be durable: it gets its own answer
    } else if (isCutOff(error) && !connection.hasBefore(exchange)) {
      connection.socket.destroy()
    } else {
      exchange.refuse(rawRefusal(error))
    }
  }

  server.on('request', (request, res) => void serve(request, res, false))
  server.on('checkContinue', (request, res) => void serve(request, res, true))
  server.on('checkExpectation', (request: IncomingMessage, res: ServerResponse) => {
    open(request, res, { kind: 'not_found' }).refuse(
      new AppError('expectation_failed', 'The only expectation served is 100-continue.'),
    )
  })
  const connections = boundConnections(server, {
    max: deps.maxConnections,
    isTrustedProxy: deps.isTrustedProxy,
    isPipelineFull: () => pipelined.waiting >= MAX_PIPELINED_WAITING,
    nowMs: deps.nowMs,
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const connection = connectionOf(socket)
    // The first error of a connection is its last event: each further chunk would make another one.
    if (connection.meter(error) || !connection.endInput()) return
    if (isTimeout(error)) slowRequests.add(() => refuseRaw(error, connection))
    else refuseRaw(error, connection)
  })
  server.on('connect', (request: IncomingMessage) => {
    const { socket } = request
    const connection = connectionOf(socket)
    // Node lets go of this socket: nothing on it is read, answered or listened to any more.
    socket.on('error', () => {})
    connection.endInput()
    const before = connection.newest
    if (before !== undefined) {
      before.closeAfterResponse() // Node forgets what stands behind it, and takes no second answer
      return
    }
    const res = new ServerResponse(request)
    res.shouldKeepAlive = false
    res.assignSocket(socket)
    res.once('finish', () => {
      res.detachSocket(socket)
      connection.lingeringClose()
      res.emit('close')
    })
    void serve(request, res, false)
  })
  return {
    server,
    connections,
    openExchanges: () => openExchanges.size,
    refuseOpen() {
      for (const exchange of openExchanges) {
        exchange.refuse(new AppError('shutting_down', 'This server is stopping. Try again.'))
      }
    },
  }
}

/** Waits for its turn; false: the exchange needs none any more. */
async function hasTurn(turns: Throttle, exchange: Exchange): Promise<boolean> {
  await turns.turn()
  return !exchange.hasResponse && !exchange.isEnded
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
