/** A service in a small container: rows 1 to 3 at once, on a heap without room for what clients do not read. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Figure } from '../drill.ts'
import type { Assault, AssaultReport } from './attackers/assault.ts'
import { countsText, figureOf } from './criterion.ts'
import type { Environment } from './environment.ts'
import type { Length } from './length.ts'
import { aliveCriterion, linesCriterion, servedCriterion } from './load-row.ts'
import {
  readBursts,
  stickingDownloads,
  stickingHealth,
  UNLIMITED_DOWNLOADS,
  unreadBursts,
} from './rows/bytes.ts'
import { Stage } from './stage.ts'

export interface HeapRun {
  /** Heap, as --max-old-space-size. */
  readonly mib: number
  readonly minutes: number
  readonly place: Environment
  readonly length: Length
  readonly print: (line: string) => void
}

const MIB = 1024 * 1024
const LOOK_MS = 30_000

export async function runSmallHeap(run: HeapRun): Promise<Figure> {
  const { mib, minutes, place, length, print } = run
  const settings = UNLIMITED_DOWNLOADS
  const stage = await Stage.open({ place, length, settings, heapMib: mib })
  try {
    await stage.look()
    const { port } = stage
    const health = await stickingHealth(stage, length)
    const endsAtMs = performance.now() + 60_000 * minutes
    const leftS = () => Math.max(0, (endsAtMs - performance.now()) / 1_000)
    const again = (seconds: number, assaultOf: (seconds: number) => Assault) =>
      attackAgain(stage, seconds, leftS, assaultOf)
    const attacking = Promise.all([
      again(length.junkS, (seconds) => ({ kind: 'junk', port, seconds, ...health })),
      again(length.junkS, (seconds) => ({
        ...{ kind: 'junk', port, seconds },
        ...stickingDownloads(place, length),
      })),
      again(length.attackS, (seconds) => ({ ...unreadBursts(length), port, seconds })),
      again(length.attackS, (seconds) => ({ ...readBursts(length), port, seconds })),
    ])
    attacking.catch(() => {}) // awaited below
    let worstMs = 0
    let peakBytes = 0
    while (leftS() > 0) {
      await wait(Math.min(LOOK_MS, 1_000 * leftS()))
      const { p99Ms, probes, rssBytes } = await stage.look()
      worstMs = Math.max(worstMs, probes.worstMs)
      peakBytes = Math.max(peakBytes, rssBytes)
      print(
        `${leftS().toFixed(0)} s left: /healthz at worst ${probes.worstMs.toFixed(0)} ms, honest p99 ${p99Ms.toFixed(1)} ms, resident ${(rssBytes / MIB).toFixed(0)} MiB`,
      )
    }
    const reports = await attacking
    const end = await stage.end()
    return figureOf(
      `rows 1 to 3 at once for ${minutes} min, on a heap of ${mib} MiB`,
      [aliveCriterion(stage, end), servedCriterion(end), linesCriterion(stage, end)],
      `/healthz at worst ${worstMs.toFixed(0)} ms, resident at most ${(peakBytes / MIB).toFixed(0)} MiB; attackers: ${reports.map(countsText).join(' | ')}`,
    )
  } finally {
    await stage.destroy()
  }
}

/** Runs one assault after the other while there is time; sums up their counts. */
async function attackAgain(
  stage: Stage,
  seconds: number,
  leftS: () => number,
  assaultOf: (seconds: number) => Assault,
): Promise<AssaultReport> {
  const sum: Record<string, number> = {}
  while (leftS() > 1) {
    const report = await stage.attack(assaultOf(Math.min(seconds, leftS())))
    for (const [what, count] of Object.entries(report)) sum[what] = (sum[what] ?? 0) + count
  }
  return sum
}
