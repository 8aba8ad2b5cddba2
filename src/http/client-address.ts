/** The address of the client: the peer's, or the one that a trusted proxy forwards. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'
import { isIpv6 } from '../lib/subnet.ts'
import type { LineContext, Log } from '../telemetry/log/log.ts'

/** Tests valid addresses against CIDRs and single addresses, which the configuration has checked. */
export function addressSet(cidrs: readonly string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [address = '', prefix] = cidr.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    if (prefix === undefined) list.addAddress(address, family)
    else list.addSubnet(address, Number(prefix), family)
  }
  return (address) => cidrs.length > 0 && list.check(address, isIpv6(address) ? 'ipv6' : 'ipv4')
}

/** The address of a socket's peer; null once the socket has closed. */
export function peerAddress(address: string | undefined): string | null {
  return address === undefined ? null : withoutPrefix(address)
}

/** `::ffff:10.0.0.1` → `10.0.0.1` */
function withoutPrefix(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address
}

/** Hops of X-Forwarded-For that are read, from the nearest: a client may prepend thousands. */
const MAX_HOPS = 32
/** `203.0.113.7:51234`, `[2001:db8::7]:51234` and `[2001:db8::7]`, also in quotes: some proxies write these. */
const WITH_PORT = /^"?(?:\[([^\]]*)\]|([\d.]+))(?::\d{0,5})?"?$/

/** The nearest hop that is not a trusted proxy; the peer if the peer is not one. */
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
    if (hop === '') continue // RFC 9110, 5.6.1: ignore empty list elements
    const address = hopAddress(hop)
    if (address === undefined) break
    nearest = address
    if (!isTrustedProxy(address)) break
  }
  return nearest
}

/** Without port, brackets and zone; undefined if it is not an address. */
function hopAddress(hop: string): string | undefined {
  const [, bracketed, v4] = WITH_PORT.exec(hop) ?? []
  const [address = ''] = (bracketed ?? v4 ?? hop).split('%', 1)
  const family = isIP(address)
  if (family !== 6) return family === 4 ? address : undefined
  return oneSpelling(address)
}

/** The canonical spelling of an IPv6 address (RFC 5952); an IPv4-mapped one becomes IPv4. */
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

/** Whether the request came over HTTPS or may use plaintext (REQUIRE_HTTPS). */
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
  // The nearest proxy writes last. An untrusted proxy on this host may still report that the client used http.
  const proto = String(headers['x-forwarded-proto'] ?? 'http')
    .split(',')
    .at(-1)
  return proto?.trim().toLowerCase() === 'https'
}

function hasHeader(headers: IncomingHttpHeaders, prefix: string): boolean {
  for (const name in headers) if (name.startsWith(prefix)) return true
  return false
}

/** Other headers with which proxies forward addresses; never read. */
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
    // An address other than the peer's came from a trusted proxy.
    if (peer === null || context.ip !== peer) return
    const isForwarded =
      PROXY_HEADERS.some((name) => headers[name] !== undefined) ||
      hasHeader(headers, 'x-forwarded-')
    if (!isForwarded || isTrustedProxy(peer)) return
    isLogged = true
    log.write({ event: 'proxy.untrusted', fields: {} }, context)
  }
}
