/** Phones that send heartbeats without a pause while something else goes on: what they were answered. */
import type { Send } from '../sim/http.ts'
import { jsonHeaders } from '../sim/http.ts'

export interface Beaten {
  /** Answers by status; `lost` where no whole answer came. */
  readonly byStatus: Readonly<Record<string, number>>
}

/** Each token's phone sends one after the other until `work` is over; resolves with both. */
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
        (answer) => String(answer.status),
        () => 'lost',
      )
      byStatus[status] = (byStatus[status] ?? 0) + 1
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
