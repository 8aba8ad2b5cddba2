/** The honest requests beside an attack: the beginning of their ids, which tells their log lines, and their one right status. */
export const HONEST = {
  heartbeats: { id: 'beat-', status: 200 },
  /** A known device, refused: a WARN line that no stranger may displace. */
  refusals: { id: 'known-', status: 404 },
  admin: { id: 'admin-', status: 200 },
} as const

export type HonestKind = keyof typeof HONEST
