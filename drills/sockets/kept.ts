/**
 * Connections that idle for as long as a balancer keeps them and are then used: none may be closed under its request.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { LoadConnection } from '../../sim/load/connection.ts'
import type { Figure } from '../drill.ts'
import type { Sender } from '../shared/heartbeat-load.ts'

export interface Kept {
  /** Resolves once each was used again, and closed. */
  readonly figure: Promise<Figure>
}

/** An ALB's, a longer one, and exactly what we promise (`Keep-Alive: timeout=75`). */
const IDLE_S = [60, 70, 75] as const
const AT_ONCE = 100
const REST_MS = 100
const FIRST = 'GET /healthz HTTP/1.1\r\nhost: drill\r\n\r\n'
const BODY = '{"status":"ok"}'

/** Resolves when `count` of them are idle. */
export async function keepIdle(
  origin: string,
  senders: readonly Sender[],
  count: number,
): Promise<Kept> {
  const { hostname: host, port } = new URL(origin)
  const byStatus: Record<string, number> = {}
  const uses: Promise<void>[] = []
  for (let index = 0; index < count; index += 1) {
    const connection = new LoadConnection({ host, port: Number(port) }, () => {})
    const ask = (bytes: string) =>
      new Promise<string>((resolve) => {
        if (!connection.isOpen) resolve('closed before')
        else connection.send(bytes, (response) => resolve(String(response?.status ?? 'none')))
      })
    const idleMs = 1_000 * (IDLE_S[index % IDLE_S.length] ?? 0)
    const token = senders[index % senders.length]?.token ?? ''
    const first = ask(FIRST)
    const use = async () => {
      await first
      await wait(idleMs)
      const status = await ask(beatOf(token))
      byStatus[status] = (byStatus[status] ?? 0) + 1
      connection.destroy()
    }
    uses.push(use())
    if (index % AT_ONCE === AT_ONCE - 1) {
      await first
      await wait(REST_MS)
    }
  }
  return { figure: Promise.all(uses).then(() => figureOf(count, byStatus)) }
}

function beatOf(token: string): string {
  const head = ['POST /v1/heartbeat HTTP/1.1', 'host: drill', `authorization: Bearer ${token}`]
  return [...head, `content-length: ${BODY.length}`, '', BODY].join('\r\n')
}

function figureOf(count: number, byStatus: Readonly<Record<string, number>>): Figure {
  return {
    promise: `a connection that lay idle for ${IDLE_S.join(', ')} s still takes a request`,
    measured: `${count} of them were answered with ${JSON.stringify(byStatus)}`,
    isHeld: byStatus[200] === count,
  }
}
