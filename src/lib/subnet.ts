/** The network of an address, in the size that one owner usually gets: an IPv4 /24 or an IPv6 /64. */
const V4_PARTS = 3
const V6_PARTS = 4
const V6_GROUPS = 8

/** `address` must be valid. Node's own isIPv6 uses a regular expression that takes V8 up to 28 ms to compile. */
export function isIpv6(address: string): boolean {
  return address.includes(':')
}

/** As subnetOf; '' for a client whose address is unknown since it has left. */
export function subnetOfClient(ip: string | null): string {
  return ip === null ? '' : subnetOf(ip)
}

/** Addresses of one network give the same text. `address` must be valid and not IPv4-mapped. */
export function subnetOf(address: string): string {
  if (!isIpv6(address)) return `${address.split('.').slice(0, V4_PARTS).join('.')}.0/24`
  const [head = '', tail] = address.toLowerCase().replace(/%.*/, '').split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const tailGroups = tail === '' ? 0 : tail.split(':').length + (tail.includes('.') ? 1 : 0)
    while (groups.length < V6_GROUPS - tailGroups) groups.push('0')
  }
  const network = groups.concat(tail?.split(':') ?? []).slice(0, V6_PARTS)
  return `${network.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`
}
