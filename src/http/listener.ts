/** The HTTP server: its options, its connections, and what each of its events does. */
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Throttle } from '../lib/throttle.ts'
import { PendingBodies } from './body/body.ts'
import { ComplexBodies } from './body/complex-bodies.ts'
import { type Connection, connectionOf } from './connection/connection.ts'
import { boundConnections, type Connections } from './connection/connections.ts'
import { LargeResponses } from './connection/large-responses.ts'
import {
  behindAllOthers,
  behindAllOthersInGroups,
  behindNewConnections,
  behindRequests,
} from './connection/new-connections.ts'
import {
  isCutOff,
  isTimeout,
  type RawResponseDeps,
  rawRefusal,
  respondRaw,
} from './connection/raw-response.ts'
import { createHandling, type HandlingDeps, type Serve } from './handle-request.ts'
import { createExchanges, type ExchangesDeps } from './open-exchanges.ts'

export interface ListenerDeps extends HandlingDeps, Omit<ExchangesDeps, 'chunkTurns' | 'large'> {
  readonly maxConnections: number
}

export interface Listener {
  readonly server: Server
  readonly connections: Connections
  /** Requests that have no terminal line yet. */
  readonly openExchanges: () => number
  /** 503 `shutting_down` to every request that has no response yet. */
  readonly refuseOpen: () => void
}

const SERVER_OPTIONS = {
  headersTimeout: 10_000,
  requestTimeout: 0, // it would cut a steady upload; http/body/body.ts has timeouts of its own
  connectionsCheckingInterval: 100, // a check makes an error (20 µs) for each request newly late; frequent ones find few
  keepAliveTimeout: 75_000, // above the idle time of common load balancers
  maxHeaderSize: 8_192,
  requireHostHeader: false, // http/well-formed.ts refuses it, with an X-Request-ID
  insecureHTTPParser: false,
  noDelay: true,
  joinDuplicateHeaders: true, // otherwise Node drops a second date, and RFC 9110 has us ignore such a precondition
} as const

export function createListener(deps: ListenerDeps): Listener {
  // Without it Node ends its side with the client's and drops pending responses; connection/connection.ts has the bound.
  const server = Object.assign(createServer(SERVER_OPTIONS), { httpAllowHalfOpen: true })
  const turns = behindNewConnections(server)
  const slowRequests = new Throttle() // refusing one takes 0.1 ms, and those that came together are late together
  const pipelined = behindAllOthers(server)
  const refused = behindAllOthersInGroups(server)
  const first = behindRequests(server, () => exchanges.withoutResponse > 0)
  const chunkTurns = { first, later: turns }
  const exchanges = createExchanges({ ...deps, chunkTurns, large: new LargeResponses() })
  const bodies = new PendingBodies(deps.nowMs, slowRequests)
  const complexBodies = new ComplexBodies(deps.nowMs)
  const waits = { turns, pipelined, refused, bodies, complexBodies }
  const serve = createHandling(deps, exchanges, waits)
  const connections = boundConnections(server, {
    max: deps.maxConnections,
    isTrustedProxy: deps.isTrustedProxy,
    nowMs: deps.nowMs,
  })
  const rawDeps = { ...deps, metrics: exchanges.unmatchedMetrics }

  server.on('request', (request, res) => void serve(request, res, 'nothing'))
  server.on('checkContinue', (request, res) => void serve(request, res, 'continue'))
  server.on('checkExpectation', (request, res) => void serve(request, res, 'unknown'))
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const connection = connectionOf(socket)
    // The first error of a connection is its last event: each further chunk would make another one.
    if (connection.meter(error) || !connection.endInput()) return
    if (isTimeout(error)) slowRequests.add(() => refuseRaw(error, connection, rawDeps))
    else refuseRaw(error, connection, rawDeps)
  })
  server.on('connect', (request: IncomingMessage) => serveConnect(request, serve))
  return {
    server,
    connections,
    openExchanges: () => exchanges.size,
    refuseOpen: exchanges.refuseAll,
  }
}

/** Refuses what the parser refused: no request at all, a broken body, or garbage behind a request. */
function refuseRaw(
  error: NodeJS.ErrnoException,
  connection: Connection,
  deps: RawResponseDeps,
): void {
  const exchange = connection.newest
  if (exchange === undefined) {
    respondRaw(error, connection, deps)
  } else if (exchange.request.complete) {
    exchange.closeAfterResponse() // what the request did may be durable: it gets its own response
  } else if (isCutOff(error) && !connection.hasBefore(exchange)) {
    connection.socket.destroy()
  } else {
    exchange.closeAfterResponse()
    exchange.refuse(rawRefusal(error))
  }
}

/** Serves a CONNECT as any other request. Node detaches the socket: it reads nothing from it and sends no response. */
function serveConnect(request: IncomingMessage, serve: Serve): void {
  const { socket } = request
  const connection = connectionOf(socket)
  connection.endInput()
  const res = new ServerResponse(request)
  res.shouldKeepAlive = false
  res.assignSocket(socket)
  res.once('finish', () => {
    res.detachSocket(socket)
    connection.lingeringClose()
    res.emit('close')
  })
  void serve(request, res, 'nothing')
}
