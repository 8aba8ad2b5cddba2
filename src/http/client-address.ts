/** Who is at the other end: the peer, or what a trusted proxy says of it (http-api.md, HTTPS rule). */
import type { IncomingHttpHeaders } from 'node:http'
import { BlockList, isIP } from 'node:net'

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

/** The nearest hop that is no trusted proxy; the peer itself where it is none. */
export function clientAddress(
  peer: string | null,
  headers: IncomingHttpHeaders,
  isTrustedProxy: (address: string) => boolean,
): string | null {
  const forwarded = headers['x-forwarded-for']
  if (peer === null || forwarded === undefined || !isTrustedProxy(peer)) return peer
  const hops = String(forwarded).split(',')
  let nearest = peer
  for (const hop of hops.reverse()) {
    const said = hop.trim()
    if (isIP(said) === 0) break
    const address = withoutPrefix(said.toLowerCase())
    nearest = address
    if (!isTrustedProxy(address)) break
  }
  return nearest
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
  if (!rule.isTrustedProxy(peer)) return isLoopback || rule.isPlaintextOk(peer)
  const isForwarded = Object.keys(headers).some((name) => name.startsWith('x-forwarded-'))
  if (isLoopback && !isForwarded) return true
  // The proxy nearest to us writes last.
  const proto = String(headers['x-forwarded-proto'] ?? 'http')
    .split(',')
    .at(-1)
  return proto?.trim().toLowerCase() === 'https'
}
