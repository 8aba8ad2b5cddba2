/** Phones that send heartbeats while something else runs, and their responses. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Send } from '../../testkit/http/client.ts'
import { jsonHeaders } from '../../testkit/http/client.ts'

export interface Beaten {
  /** Responses by status; `lost` without a whole response. */
  readonly byStatus: Readonly<Record<string, number>>
}

/** Few enough that a day can be moved within the lock time-out: at most 80 heartbeats a second of eight phones. */
const PAUSE_MS = 100

/** Each phone sends one heartbeat after the other, with a pause, until `work` ends. */
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
