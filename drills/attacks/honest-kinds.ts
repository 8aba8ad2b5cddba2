/**
 * The honest requests beside an attack: the prefix of their ids, which identifies their log lines, and their only
 * right status.
 */
export const HONEST = {
  heartbeats: { id: 'beat-', status: 200 },
  /** A known device that is refused: strangers must not displace its WARN line. */
  refusals: { id: 'known-', status: 404 },
  admin: { id: 'admin-', status: 200 },
} as const

export type HonestKind = keyof typeof HONEST
