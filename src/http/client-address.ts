/** Who is at the other end: the peer, or what a trusted proxy says of it. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'
import type { LineContext, Log } from '../telemetry/log/log.ts'

/** Addresses of a CIDR list; a bare address means itself. The list was checked by the configuration. */
export function addressSet(cidrs: readonly string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [address = '', prefix] = cidr.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    if (prefix === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(prefix), family)
  }
  return (address) => cidrs.length > 0 && list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/** A socket's own word for its peer; null where there is none any more. */
export function peerAddress(address: string | undefined): string | null {
  return address === undefined ? null : withoutPrefix(address)
}

/** `::ffff:10.0.0.1` → `10.0.0.1` */
function withoutPrefix(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address
}

/** Hops of X-Forwarded-For that are read, from the nearest: a client may write thousands in front of it. */
const MAX_HOPS = 32
/** `203.0.113.7:51234`, `[2001:db8::7]:51234` and `[2001:db8::7]`, also in quotes: what some proxies write. */
const WITH_PORT = /^"?(?:\[([^\]]*)\]|([\d.]+))(?::\d{0,5})?"?$/

/** The nearest hop that is no trusted proxy; the peer itself where it is none. */
export function clientAddress(
  peer: string | null,
  headers: IncomingHttpHeaders,
  isTrustedProxy: (address: string) => boolean,
): string | null {
  const forwarded = headers['x-forwarded-for']
  if (peer === null || forwarded === undefined || !isTrustedProxy(peer)) return peer
  const hops = String(forwarded)
  let nearest = peer
  let end = hops.length
  for (let count = 0; count < MAX_HOPS && end > 0; count += 1) {
    const comma = hops.lastIndexOf(',', end - 1)
    const hop = hops.slice(comma + 1, end).trim()
    end = comma
    if (hop === '') continue // empty members of a list count as none (RFC 9110, 5.6.1)
    const address = hopAddress(hop)
    if (address === undefined) break
    nearest = address
    if (!isTrustedProxy(address)) break
  }
  return nearest
}

/** Without port, brackets and zone; undefined where it is no address. */
function hopAddress(hop: string): string | undefined {
  const [, bracketed, v4] = WITH_PORT.exec(hop) ?? []
  const [address = ''] = (bracketed ?? v4 ?? hop).split('%', 1)
  const family = isIP(address)
  if (family !== 6) return family === 4 ? address : undefined
  return oneSpelling(address)
}

/** Each IPv6 address in one spelling, as RFC 5952 has it; one of IPv4 as that. */
function oneSpelling(address: string): string {
  const shortest = new URL(`http://[${address}]`).hostname.slice(1, -1)
  const [, high, low] = /^::ffff:([\da-f]+):([\da-f]+)$/.exec(shortest) ?? []
  if (high === undefined || low === undefined) return shortest
  const bits = [high, low].map((group) => Number.parseInt(group, 16))
  return bits.flatMap((group) => [group >> 8, group & 0xff]).join('.')
}

export interface HttpsRule {
  readonly isTrustedProxy: (address: string) => boolean
  readonly isPlaintextOk: (address: string) => boolean
}

/** Whether the request came over HTTPS or may do without: see REQUIRE_HTTPS. */
export function isTransportAllowed(
  peer: string | null,
  headers: IncomingHttpHeaders,
  rule: HttpsRule,
): boolean {
  if (peer === null) return false
  const isLoopback = peer === '::1' || peer.startsWith('127.')
  if (!rule.isTrustedProxy(peer)) {
    if (rule.isPlaintextOk(peer)) return true
    if (!isLoopback) return false
  }
  if (isLoopback && !hasHeader(headers, 'x-forwarded-')) return true
  // The proxy nearest to us writes last. One on this host that is not trusted can still tell that a client spoke http.
  const proto = String(headers['x-forwarded-proto'] ?? 'http')
    .split(',')
    .at(-1)
  return proto?.trim().toLowerCase() === 'https'
}

function hasHeader(headers: IncomingHttpHeaders, prefix: string): boolean {
  for (const name in headers) if (name.startsWith(prefix)) return true
  return false
}

/** What else a proxy sets that says for whom it asks. We read neither. */
const PROXY_HEADERS = ['forwarded', 'x-real-ip'] as const

/** Logs `proxy.untrusted` at the first request with forwarding headers from a peer that is no trusted proxy. */
export function createProxyNotice(
  isTrustedProxy: (address: string) => boolean,
  log: Log,
): (request: IncomingMessage, context: LineContext) => void {
  let isLogged = false
  return ({ headers, socket }, context) => {
    if (isLogged) return
    const peer = peerAddress(socket.remoteAddress)
    // If the address is not the peer's, a trusted proxy gave it.
    if (peer === null || context.ip !== peer) return
    const isForwarded =
      PROXY_HEADERS.some((name) => headers[name] !== undefined) ||
      hasHeader(headers, 'x-forwarded-')
    if (!isForwarded || isTrustedProxy(peer)) return
    isLogged = true
    log.write({ event: 'proxy.untrusted', fields: {} }, context)
  }
}
