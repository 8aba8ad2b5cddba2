/** Opens an exchange for each request, and knows those that are open. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { shuttingDown } from '../domain/errors.ts'
import { isRequestId } from '../domain/ids.ts'
import { LinkedList } from '../lib/linked-list.ts'
import type { Match } from '../router.ts'
import type { Metrics, RouteMetrics } from '../telemetry/metrics/metrics.ts'
import { clientAddress, createProxyNotice, peerAddress } from './client-address.ts'
import { connectionOf } from './connection/connection.ts'
import { Exchange, type ExchangeDeps } from './exchange.ts'
import { newContext, type Route, UNMATCHED } from './route.ts'

export interface ExchangesDeps extends Omit<ExchangeDeps, 'onOpen' | 'onResponse' | 'onEnd'> {
  readonly routes: readonly Route[]
  readonly metrics: Pick<Metrics, 'route'>
  readonly newId: () => string
  readonly isTrustedProxy: (address: string) => boolean
}

export interface Exchanges {
  open(request: IncomingMessage, res: ServerResponse, match: Match<Route>): Exchange
  /** Exchanges that have no terminal line yet. */
  readonly size: number
  /** Of them, those whose response has not begun. */
  readonly withoutResponse: number
  /** 503 `shutting_down` to every request that has no response yet. */
  refuseAll(): void
  readonly unmatchedMetrics: RouteMetrics
}

export function createExchanges(deps: ExchangesDeps): Exchanges {
  /** Resolved once: the path of a request never makes a series. */
  const metricsOf = new Map(deps.routes.map(({ path }) => [path, deps.metrics.route(path)]))
  const unmatchedMetrics = deps.metrics.route(UNMATCHED)
  const noticeProxy = createProxyNotice(deps.isTrustedProxy, deps.log)
  const opened = new LinkedList<Exchange>()
  let withoutResponse = 0
  const exchangeDeps: ExchangeDeps = {
    ...deps,
    onOpen(exchange) {
      connectionOf(exchange.request.socket).opened(exchange)
      withoutResponse += 1
      return opened.add(exchange)
    },
    onResponse() {
      withoutResponse -= 1
    },
    onEnd: (_, node) => opened.remove(node),
  }
  // One listener, not one per request: Node 20 never frees signals derived from a long-lived one.
  deps.closing.addEventListener('abort', () => {
    for (const exchange of opened) exchange.stopWaiting()
  })

  return {
    open(request, res, match) {
      const { headers, socket } = request
      const given = headers['x-request-id']
      const matched = 'route' in match ? match.route : undefined
      const context = newContext(
        typeof given === 'string' && isRequestId(given) ? given : deps.newId(),
        matched?.path ?? UNMATCHED,
        matched?.isProbe === true,
        clientAddress(peerAddress(socket.remoteAddress), headers, deps.isTrustedProxy),
        headers['user-agent'] ?? null, // cut to its limit when a line is built
      )
      noticeProxy(request, context)
      const metrics = metricsOf.get(context.route) ?? unmatchedMetrics
      const route = match.kind === 'found' ? match.route : undefined
      return new Exchange(exchangeDeps, metrics, request, res, context, route)
    },
    get size() {
      return opened.size
    },
    get withoutResponse() {
      return withoutResponse
    },
    refuseAll() {
      for (const exchange of opened) {
        exchange.refuse(shuttingDown())
      }
    },
    unmatchedMetrics,
  }
}
