/** Checks whether two databases run the group statement the same way: reads, writes and indexes of its plan. */
import { createHash } from 'node:crypto'
import type { HeartbeatItem } from '../src/db/heartbeats/heartbeats.ts'
import type { HmacSecret } from '../src/domain/identity.ts'
import type { Explained } from '../testkit/database/explain.ts'
import { heartbeatItem } from '../testkit/database/heartbeat-item.ts'
import { seededToken } from '../testkit/database/seeded-fleet.ts'

/** The indexes of a statement, and how much it read. */
export function planShape({ name, nodes }: Explained): string {
  return [name, ...nodes].join('\n  ')
}

/** Heartbeats of `count` seeded devices, spread over the first `devices`. */
export function seededItems(
  secret: HmacSecret,
  devices: number,
  count: number,
): readonly HeartbeatItem[] {
  return Array.from({ length: count }, (_, index) => {
    const n = Math.floor((index * devices) / count) + 1
    const tokenHash = createHash('sha256').update(seededToken(secret, n)).digest()
    return heartbeatItem(tokenHash, `seeded-${n}`, {
      batteryPct: 71,
      networkType: 'wifi',
      uptimeS: 86_400,
      isPlugged: false,
      tempC: 28.5,
      ramUsedMb: 2_243,
      appVersion: '1.0.252',
      appVersions: { 'com.example.app': 42 },
    })
  })
}
