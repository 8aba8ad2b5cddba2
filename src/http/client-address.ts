/** Who is at the other end: the peer, or what a trusted proxy says of it. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'
import type { LineContext, Log } from '../telemetry/events.ts'

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
/** `203.0.113.7:51234`, `[2001:db8::7]:51234` and `[2001:db8::7]`: what some proxies write. */
const WITH_PORT = /^(?:\[([^\]]*)\]|([\d.]+))(?::\d{1,5})?$/

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
  for (let count = 0; count < MAX_HOPS && end >= 0; count += 1) {
    const comma = hops.lastIndexOf(',', end - 1)
    const address = hopAddress(hops.slice(comma + 1, end))
    if (address === undefined) break
    nearest = address
    if (!isTrustedProxy(address)) break
    end = comma
  }
  return nearest
}

/** Without port, brackets and zone; undefined where it is no address. */
function hopAddress(hop: string): string | undefined {
  const text = hop.trim()
  const [, bracketed, v4] = WITH_PORT.exec(text) ?? []
  const [address = ''] = (bracketed ?? v4 ?? text).split('%', 1)
  return isIP(address) === 0 ? undefined : withoutPrefix(address.toLowerCase())
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
    const isForwarded = headers['forwarded'] !== undefined || hasHeader(headers, 'x-forwarded-')
    if (!isForwarded || isTrustedProxy(peer)) return
    isLogged = true
    log.write({ event: 'proxy.untrusted', fields: {} }, context)
  }
}
