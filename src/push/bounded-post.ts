/**
 * POST requests over a bounded number of keep-alive connections. Uses node:http because fetch has no cap: it opens
 * another idle connection after each aborted call (64 concurrent sends to a hanging FCM held up to 183 sockets).
 */
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { isExcepted, type OutboundProxy, TunnelAgent } from './outbound-proxy.ts'

export interface PostOptions {
  readonly maxSockets: number
  /** From the call until the response is read, milliseconds. */
  readonly timeoutMs: number
  /** For https; null: none. */
  readonly proxy: OutboundProxy | null
}

/** Resolves with the result of `read`. Rejects with the network error, or with an error named TimeoutError. */
export type Post = <T>(
  headers: Readonly<Record<string, string>>,
  body: string,
  read: (response: IncomingMessage) => Promise<T>,
  /** Default: that of the options, which is also the most. */
  timeoutMs?: number,
) => Promise<T>

/** Shorter than the idle timeouts of common servers and balancers: a reused connection that they close loses a message. */
const IDLE_MS = 4_000

/**
 * Of the timeout, for each address of a host but the last. Node's 250 ms give a slow IPv4 handshake up for an IPv6 address that
 * may not be reachable at all.
 */
const PART_FOR_EACH_ADDRESS = 1 / 3

export function createPost(url: string, { maxSockets, timeoutMs, proxy }: PostOptions): Post {
  const agentOptions = {
    keepAlive: true,
    maxSockets,
    timeout: IDLE_MS,
    autoSelectFamilyAttemptTimeout: Math.ceil(timeoutMs * PART_FOR_EACH_ADDRESS),
  }
  const isHttps = url.startsWith('https:')
  const tunnel =
    isHttps && proxy !== null && !isExcepted(proxy, new URL(url))
      ? new TunnelAgent(proxy, timeoutMs, agentOptions)
      : undefined
  const agent = tunnel ?? (isHttps ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions))
  const open = isHttps ? requestHttps : requestHttp

  return (headers, body, read, withinMs = timeoutMs) =>
    new Promise((resolve, reject) => {
      const length = { 'content-length': String(Buffer.byteLength(body)) }
      const request = open(url, { method: 'POST', agent, headers: { ...headers, ...length } })
      const clock = setTimeout(() => {
        const error = new Error(`no answer within ${withinMs} ms`)
        error.name = 'TimeoutError'
        request.destroy(error)
        reject(error)
      }, withinMs)
      const settle = () => clearTimeout(clock)
      request.on('error', (error) => {
        settle()
        reject(error)
      })
      request.on('response', (response) => {
        read(response).finally(settle).then(resolve, reject)
      })
      request.end(body)
    })
}
