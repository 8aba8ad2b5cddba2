/** Phones that send heartbeats while something else goes on: what they were answered. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Send } from '../../testkit/http/client.ts'
import { jsonHeaders } from '../../testkit/http/client.ts'

export interface Beaten {
  /** Answers by status; `lost` where no whole answer came. */
  readonly byStatus: Readonly<Record<string, number>>
}

/** So few that a day is moved within the lock's time-out however long it goes on: 80 a second of eight phones at most. */
const PAUSE_MS = 100

/** Each token's phone sends one after the other, with a pause, until `work` is over; resolves with both. */
export async function beatDuring<T>(
  send: Send,
  tokens: readonly string[],
  work: () => Promise<T>,
): Promise<Beaten & { readonly value: T }> {
  const byStatus: Record<string, number> = {}
  let isOver = false
  const phones = tokens.map(async (token) => {
    while (!isOver) {
      const status = await send({
        method: 'POST',
        path: '/v1/heartbeat',
        headers: jsonHeaders(token),
        body: '{"battery_pct":50}',
      }).then(
        (response) => String(response.status),
        () => 'lost',
      )
      byStatus[status] = (byStatus[status] ?? 0) + 1
      await wait(PAUSE_MS)
    }
  })
  try {
    const value = await work()
    return { byStatus, value }
  } finally {
    isOver = true
    await Promise.all(phones)
  }
}
