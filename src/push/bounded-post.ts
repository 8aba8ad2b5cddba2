/**
 * POST requests over a bounded number of keep-alive connections. Uses node:http because fetch has no cap: it opens
 * another idle connection after each aborted call (64 concurrent sends to a hanging FCM held up to 183 sockets).
 */
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'

export interface PostOptions {
  readonly maxSockets: number
  /** From the call until the response is read, milliseconds. */
  readonly timeoutMs: number
}

/** Resolves with the result of `read`. Rejects with the network error, or with an error named TimeoutError. */
export type Post = <T>(
  headers: Readonly<Record<string, string>>,
  body: string,
  read: (response: IncomingMessage) => Promise<T>,
) => Promise<T>

/** Shorter than the idle timeouts of common servers and balancers: a reused connection that they close loses a message. */
const IDLE_MS = 4_000

export function createPost(url: string, { maxSockets, timeoutMs }: PostOptions): Post {
  const agentOptions = { keepAlive: true, maxSockets, timeout: IDLE_MS }
  const isHttps = url.startsWith('https:')
  const agent = isHttps ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions)
  const open = isHttps ? requestHttps : requestHttp

  return (headers, body, read) =>
    new Promise((resolve, reject) => {
      const length = { 'content-length': String(Buffer.byteLength(body)) }
      const request = open(url, { method: 'POST', agent, headers: { ...headers, ...length } })
      const clock = setTimeout(() => {
        const error = new Error(`no answer within ${timeoutMs} ms`)
        error.name = 'TimeoutError'
        request.destroy(error)
        reject(error)
      }, timeoutMs)
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
