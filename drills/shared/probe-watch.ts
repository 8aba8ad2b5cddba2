/** Polls /healthz and /readyz, as a supervisor and a balancer do, and records the responses. */
import { setTimeout as wait } from 'node:timers/promises'
import { createSend } from '../../testkit/http/client.ts'

export interface ProbeWatch {
  /** Probes of /healthz, and those without 200. */
  readonly health: { readonly asked: number; readonly failed: number }
  /** Milliseconds from `movedAtMs` (performance.now) to the first such response of /readyz; undefined: none yet. */
  readyAfterMs(sinceMs: number, isReady: boolean): number | undefined
  /** Responses 200 of /readyz from the first moment to before the second (performance.now). */
  readyBetween(fromMs: number, toMs: number): number
  stop(): Promise<void>
}

const EVERY_MS = 50

export function startProbes(origin: string): ProbeWatch {
  const send = createSend(origin)
  const health = { asked: 0, failed: 0 }
  const ready: { readonly atMs: number; readonly isReady: boolean }[] = []
  let isOver = false

  async function ask(path: string, told: (isGood: boolean) => void): Promise<void> {
    while (!isOver) {
      const isGood = await send({ method: 'GET', path }).then(
        ({ status }) => status === 200,
        () => false,
      )
      told(isGood)
      await wait(EVERY_MS)
    }
  }
  const asking = Promise.all([
    ask('/healthz', (isGood) => {
      health.asked += 1
      if (!isGood) health.failed += 1
    }),
    ask('/readyz', (isReady) => void ready.push({ atMs: performance.now(), isReady })),
  ])

  return {
    health,
    readyAfterMs(sinceMs, isReady) {
      const found = ready.find((each) => each.atMs >= sinceMs && each.isReady === isReady)
      return found && found.atMs - sinceMs
    },
    readyBetween: (fromMs, toMs) =>
      ready.filter(({ atMs, isReady }) => isReady && atMs >= fromMs && atMs < toMs).length,
    async stop() {
      isOver = true
      await asking
    },
  }
}
