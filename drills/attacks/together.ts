/** All attacks, several at once for a few seconds on one service with a small heap: the form that the tests run. */
import type { Figure } from '../drill.ts'
import type { AssaultReport } from './attackers/assault.ts'
import { countsText, figureOf } from './criterion.ts'
import {
  aliveCriterion,
  healthCriterion,
  type LoadRow,
  linesCriterion,
  type RowRun,
  servedCriterion,
} from './load-row.ts'
import { type Look, Stage } from './stage.ts'

export interface TogetherRun extends RowRun {
  /** The rows of a group run at once, the groups one after the other. */
  readonly groups: readonly (readonly LoadRow[])[]
  readonly heapMib: number
}

export async function runTogether(run: TogetherRun): Promise<readonly Figure[]> {
  const { groups, place, length, heapMib } = run
  const rows = groups.flat()
  const begun = await Promise.all(
    rows.map(async (row) => [row, await row.begin(length, place)] as const),
  )
  const beginnings = new Map(begun)
  const options = begun.map(([, beginning]) => beginning.options ?? {})
  const settings = Object.assign({}, ...options.map((each) => each.settings))
  const { maxOpenFiles } = Object.assign({}, ...options)
  const stage = await Stage.open({ place, length, heapMib, settings, maxOpenFiles })
  try {
    await stage.look()
    const looks: Look[] = []
    const figures: (() => Figure)[] = []
    for (const group of groups) {
      const attacks = await Promise.all(
        group.map(async (row) => [row, await beginnings.get(row)?.attack(stage)] as const),
      )
      const reports = await Promise.all(attacks.map(([, attack]) => attack?.wave()))
      const look = await stage.look()
      looks.push(look)
      const { probes, p99Ms, rssBytes } = look
      run.print(
        `rows ${group.map(({ row }) => row).join(', ')}: /healthz at worst ${probes.worstMs.toFixed(0)} ms, honest p99 ${p99Ms.toFixed(0)} ms, resident ${(rssBytes / 2 ** 20).toFixed(0)} MiB`,
      )
      for (const [index, [row, attack]] of attacks.entries()) {
        const own: readonly AssaultReport[] = [reports[index] ?? {}]
        const judged = (await attack?.judge?.(own)) ?? []
        figures.push(() => {
          const ofLines = attack?.judgeLines?.(own, stage.lines) ?? []
          const title = `row ${row.row}, ${row.title}`
          return figureOf(title, [...judged, ...ofLines], own.map(countsText).join())
        })
      }
    }
    const end = await stage.end()
    const common = [
      healthCriterion(looks),
      linesCriterion(stage, end),
      servedCriterion(end),
      aliveCriterion(stage, end),
    ]
    return [...figures.map((judge) => judge()), figureOf('all of them', common)]
  } finally {
    await stage.destroy()
    await Promise.all(begun.map(([, beginning]) => beginning.end?.()))
  }
}
