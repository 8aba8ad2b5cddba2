/**
 * POST requests over at most so many connections, kept alive. By node:http and not fetch, which has no cap: after each
 * aborted call it opens an idle connection more (64 sends at once against a hanging FCM held up to 183 sockets).
 */
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'

export interface PostOptions {
  readonly maxSockets: number
  /** From the call until the whole answer was read, milliseconds. */
  readonly timeoutMs: number
}

/** Resolves with what `read` makes of the answer; rejects with the network's error, or one named TimeoutError. */
export type Post = <T>(
  headers: Readonly<Record<string, string>>,
  body: string,
  read: (response: IncomingMessage) => Promise<T>,
) => Promise<T>

/** An idle connection is given up before common servers and balancers do it, which would cost a message. */
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
