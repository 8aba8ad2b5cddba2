/**
 * A small HTTP load balancer: probes /readyz of each backend once a second, sends requests in turn to those that
 * returned 200 last, on kept connections, and learns nothing from failed requests.
 */

import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { listen } from '../../testkit/listen.ts'

export interface BalancerOptions {
  readonly backends: readonly string[]
  /** Source address of its connections to the backends. */
  readonly localAddress: string
  /** Whether it forwards the client's address and that it used HTTPS. */
  readonly forwards: boolean
  readonly probeMs?: number
}

export interface Balancer {
  readonly origin: string
  /** The last probe's result. */
  isReady(backend: string): boolean
  close(): Promise<void>
}

const PROBE_MS = 1_000
/** Of a probe; below the interval. */
const PROBE_TIMEOUT_MS = 900
const BAD_GATEWAY = 502
const UNAVAILABLE = 503

export async function startBalancer(options: BalancerOptions): Promise<Balancer> {
  const { backends, localAddress } = options
  const agent = new Agent({ keepAlive: true, localAddress })
  const ready = new Set<string>()
  let turn = 0

  function probe(backend: string): void {
    const asking = request(`${backend}/readyz`, {
      agent: false,
      localAddress,
      timeout: PROBE_TIMEOUT_MS,
    })
    const failed = () => {
      ready.delete(backend)
      asking.destroy()
    }
    asking.on('response', (response) => {
      response.resume()
      if (response.statusCode === 200) ready.add(backend)
      else ready.delete(backend)
    })
    asking.on('timeout', failed).on('error', failed).end()
  }

  function forward(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const candidates = backends.filter((backend) => ready.has(backend))
    const backend = candidates[turn++ % candidates.length]
    if (backend === undefined) {
      outgoing.writeHead(UNAVAILABLE).end()
      return
    }
    const { connection: _, ...headers } = incoming.headers
    const onward = request(`${backend}${incoming.url}`, {
      agent,
      method: incoming.method,
      headers: {
        ...headers,
        ...(options.forwards && {
          'x-forwarded-proto': 'https',
          'x-forwarded-for': incoming.socket.remoteAddress,
        }),
      },
    })
    onward.on('response', (response) => {
      const { connection: __, ...kept } = response.headers // it is between the backend and us
      outgoing.writeHead(response.statusCode ?? BAD_GATEWAY, kept)
      response.pipe(outgoing)
    })
    onward.on('error', () => {
      if (outgoing.headersSent) outgoing.destroy()
      else outgoing.writeHead(BAD_GATEWAY).end()
    })
    incoming.pipe(onward)
  }

  const server = createServer(forward)
  const port = await listen(server)
  const probeAll = () => backends.forEach(probe)
  probeAll()
  const probing = setInterval(probeAll, options.probeMs ?? PROBE_MS)

  return {
    origin: `http://127.0.0.1:${port}`,
    isReady: (backend) => ready.has(backend),
    async close() {
      clearInterval(probing)
      server.closeAllConnections()
      agent.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
