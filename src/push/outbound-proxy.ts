/**
 * The way to FCM and to the token endpoint through an HTTP proxy: a tunnel by CONNECT (RFC 9110, 9.3.6), in which TLS runs
 * from here to Google. Of our own, since only Node 24 has one (NODE_USE_ENV_PROXY).
 */
import { type AgentOptions, Agent as HttpAgent, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { isIP, type Socket } from 'node:net'
import { type Duplex, PassThrough } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { errorText } from '../lib/error-text.ts'

export interface OutboundProxy {
  /** `http://[user:password@]host:port`. */
  readonly url: string
  /** NO_PROXY: hosts to reach without it. */
  readonly except: readonly string[]
}

/** Without the credentials, which no message shows. */
function proxyHost({ url }: OutboundProxy): string {
  return new URL(url).host
}

/**
 * As curl reads NO_PROXY: `*`, or a host with its subdomains, with or without a leading dot or `*.`; a port after it, if
 * given, must be the same.
 */
export function isExcepted({ except }: OutboundProxy, url: URL): boolean {
  const host = unbracketed(url.hostname)
  const port = url.port || '443'
  return except.some((entry) => {
    if (entry === '*') return true
    const isBareIpv6 = isIP(entry) === 6
    const [, name = '', ofPort] = isBareIpv6 ? [entry, entry] : (NAME_AND_PORT.exec(entry) ?? [])
    const wanted = unbracketed(name.toLowerCase())
    const isHost = host === wanted || host.endsWith(`.${wanted}`)
    return wanted !== '' && isHost && (ofPort === undefined || ofPort === port)
  })
}

const NAME_AND_PORT = /^(?:\*?\.)?(.*?)(?::(\d+))?$/

function unbracketed(host: string): string {
  return host.replace(/^\[|\]$/g, '')
}

type OnSocket = (error: Error | null, socket: Duplex) => void

/** Connections through the proxy. One whose tunnel is not there yet does not count towards `maxSockets`. */
export class TunnelAgent extends HttpsAgent {
  readonly #proxy: OutboundProxy
  readonly #timeoutMs: number
  readonly #toProxy: HttpAgent

  /** `timeoutMs`: for the proxy's response to CONNECT. */
  constructor(proxy: OutboundProxy, timeoutMs: number, options: AgentOptions) {
    super(options)
    this.#proxy = proxy
    this.#timeoutMs = timeoutMs
    const { autoSelectFamilyAttemptTimeout } = options
    this.#toProxy = new HttpAgent({ autoSelectFamilyAttemptTimeout })
  }

  override createConnection(
    options: { readonly host?: string | null; readonly port?: string | number | null },
    onSocket?: OnSocket,
  ): undefined {
    const { host, port } = options
    const target = `${host?.includes(':') ? `[${host}]` : host}:${port}`
    const { hostname, port: proxyPort, username, password } = new URL(this.#proxy.url)
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
    const signal = AbortSignal.timeout(this.#timeoutMs)
    const tunnel = requestHttp({
      method: 'CONNECT',
      host: unbracketed(hostname),
      port: proxyPort || 80,
      path: target,
      agent: this.#toProxy,
      signal,
      headers: {
        host: target,
        ...(username !== '' && {
          'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}`,
        }),
      },
    })
    const failed = (why: string) => {
      // Node ignores the stream beside an error.
      onSocket?.(new Error(`proxy ${proxyHost(this.#proxy)}: ${why}`), new PassThrough())
    }
    const late = `it did not answer CONNECT within ${this.#timeoutMs} ms`
    tunnel.on('error', (error) => failed(signal.aborted ? late : errorText(error)))
    tunnel.on('connect', ({ statusCode }, socket: Socket) => {
      if (statusCode === undefined || statusCode < 200 || statusCode > 299) {
        socket.destroy()
        failed(`it answered CONNECT with ${statusCode}`)
        return
      }
      const servername = host ?? ''
      onSocket?.(null, connectTls({ ...options, host: servername, port: Number(port), socket }))
    })
    tunnel.end()
  }
}
