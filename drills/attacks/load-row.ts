/**
 * A row that attacks beside honest load: quiet windows and attack windows in turn, and the criteria of all such rows.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { type Comparison, compare } from '../../testkit/compare.ts'
import type { Figure } from '../drill.ts'
import { servedAll } from '../stdout/phases.ts'
import type { AssaultReport } from './attackers/assault.ts'
import { type Criterion, countsText, figureOf, GROSS } from './criterion.ts'
import type { Environment } from './environment.ts'
import { HONEST, type HonestKind } from './honest-kinds.ts'
import type { Length } from './length.ts'
import type { LinesAccount } from './lines-account.ts'
import { type Look, Stage, type StageEnd, type StageOptions } from './stage.ts'

export interface LoadRow {
  readonly row: number
  readonly title: string
  /** Attack windows; default: the length's. */
  readonly rounds?: number
  /** Bound on honest p99 under attack divided by that in quiet. */
  readonly mostRatio?: number
  /** Share of the noise floor that is added to the bound: most machines cannot resolve ten percent. */
  readonly mostNoise?: number
  /** Downloads that the service grants meanwhile: each may cost 1 MiB (F8). */
  readonly downloads?: number
  /** Runs before the service starts. */
  readonly begin: (length: Length, place: Environment) => Promise<Beginning>
}

export interface Beginning {
  readonly options?: Partial<Omit<StageOptions, 'place' | 'length'>>
  /** Runs on the service before the first window. */
  readonly attack: (stage: Stage) => Promise<Attack>
  readonly end?: () => Promise<void>
}

export interface Attack {
  readonly wave: () => Promise<AssaultReport>
  /**
   * The same attack on another server, during the quiet windows. On two cores the attackers' own work moved an honest p99 by
   * 15 to 38 percent while none of their requests reached the service.
   */
  readonly elsewhere?: () => Promise<AssaultReport>
  /** Further criteria, judged while the service runs. */
  readonly judge?: (reports: readonly AssaultReport[]) => Promise<readonly Criterion[]>
  /** Further criteria on the whole log. */
  readonly judgeLines?: (
    reports: readonly AssaultReport[],
    lines: LinesAccount,
  ) => readonly Criterion[]
}

const MOST_HEALTH_MS = 100
const MOST_RATIO = 2
const MOST_GROWN_MIB = 32
const SETTLE_MS = 2_000
const MIB = 1024 * 1024

export interface RowRun {
  readonly place: Environment
  readonly length: Length
  readonly print: (line: string) => void
}

export async function runLoadRow(row: LoadRow, run: RowRun): Promise<Figure> {
  const { place, length, print } = run
  const beginning = await row.begin(length, place)
  const stage = await Stage.open({ place, length, ...beginning.options })
  try {
    const attack = await beginning.attack(stage)
    await wait(1_000 * length.quietS)
    await stage.look()
    const quiet: Look[] = []
    const hostile: Look[] = []
    const reports: AssaultReport[] = []
    for (let round = 1; round <= (row.rounds ?? length.rounds); round += 1) {
      await Promise.all([wait(1_000 * length.quietS), attack.elsewhere?.()])
      quiet.push(await stage.look())
      reports.push(await attack.wave())
      const beside = await stage.look()
      await wait(SETTLE_MS)
      const after = await stage.look()
      hostile.push({ ...beside, probes: both(beside.probes, after.probes) })
      print(`row ${row.row}, ${row.title}, round ${round}: ${lookText(quiet, hostile)}`)
    }
    const own = (await attack.judge?.(reports)) ?? []
    const end = await stage.end()
    return figureOf(
      `row ${row.row}, ${row.title}`,
      [
        healthCriterion(hostile, quiet),
        latencyCriterion(row, quiet, hostile),
        memoryCriterion(row, quiet, hostile),
        linesCriterion(stage, end),
        servedCriterion(end),
        aliveCriterion(stage, end),
        ...own,
        ...(attack.judgeLines?.(reports, stage.lines) ?? []),
      ],
      `attackers: ${reports.map(countsText).join(' | ')}`,
    )
  } finally {
    await stage.destroy()
    await beginning.end?.()
  }
}

const both = (one: Look['probes'], other: Look['probes']) => ({
  asked: one.asked + other.asked,
  failed: one.failed + other.failed,
  worstMs: Math.max(one.worstMs, other.worstMs),
  lateMs: Math.max(one.lateMs, other.lateMs),
})

function lookText(quiets: readonly Look[], hostiles: readonly Look[]): string {
  const [quiet, hostile] = [quiets.at(-1), hostiles.at(-1)]
  if (quiet === undefined || hostile === undefined) return ''
  const { probes, p99Ms, rssBytes } = hostile
  return `/healthz at worst ${probes.worstMs.toFixed(0)} ms (in quiet ${quiet.probes.worstMs.toFixed(0)} ms; prober late ${probes.lateMs.toFixed(0)} ms), ${probes.failed} failed; honest p99 ${quiet.p99Ms.toFixed(1)} → ${p99Ms.toFixed(1)} ms; resident ${mib(quiet.rssBytes)} → ${mib(rssBytes)} MiB`
}

const mib = (bytes: number) => (bytes / MIB).toFixed(0)

/** During and after the attack; also reports what the machine alone does to a prober. */
export function healthCriterion(hostile: readonly Look[], quiet: readonly Look[] = []): Criterion {
  const worst = (looks: readonly Look[]) => Math.max(...looks.map(({ probes }) => probes.worstMs))
  const inQuiet = quiet.length === 0 ? '' : `; in quiet at worst ${worst(quiet).toFixed(1)} ms`
  const lateMs = Math.max(...hostile.map(({ probes }) => probes.lateMs))
  const worstMs = worst(hostile)
  const asked = hostile.reduce((sum, { probes }) => sum + probes.asked, 0)
  const failed = hostile.reduce((sum, { probes }) => sum + probes.failed, 0)
  return {
    bar: `/healthz within ${MOST_HEALTH_MS} ms`,
    measured: `/healthz at worst ${worstMs.toFixed(1)} ms, ${failed} of ${asked} failed${inQuiet}; a timer of the prober late by up to ${lateMs.toFixed(1)} ms`,
    isHeld: worstMs <= MOST_HEALTH_MS && failed === 0,
    isTimed: worstMs <= GROSS.stallMs && failed === 0,
  }
}

function latencyCriterion(
  { mostRatio = MOST_RATIO, mostNoise = 0 }: LoadRow,
  quiet: readonly Look[],
  hostile: readonly Look[],
): Criterion {
  const { base, other, ratio, noise }: Comparison = compare(
    quiet.map(({ p99Ms }) => p99Ms),
    hostile.map(({ p99Ms }) => p99Ms),
  )
  const allowance = Math.min(Number.isNaN(noise) ? mostNoise : noise, mostNoise)
  return {
    bar: `honest p99 at most ${mostRatio} ×${mostNoise > 0 ? ' + noise floor' : ''} that in quiet`,
    measured: `honest p99 ${base.toFixed(2)} → ${other.toFixed(2)} ms: ${ratio.toFixed(2)} × (medians of ${quiet.length}${Number.isNaN(noise) ? '' : `; noise ${(noise * 100).toFixed(0)} %`})`,
    isHeld: ratio <= mostRatio + allowance,
    isTimed: other <= GROSS.stallMs,
  }
}

function memoryCriterion(
  { downloads = 0 }: LoadRow,
  quiet: readonly Look[],
  hostile: readonly Look[],
): Criterion {
  const before = quiet[0]?.rssBytes ?? 0
  const peak = Math.max(...hostile.map(({ rssBytes }) => rssBytes))
  const grownMib = (peak - before) / MIB
  const each = downloads > 0 ? `, and 1 for each of ${downloads} downloads` : ''
  return {
    bar: `memory + at most ${MOST_GROWN_MIB} MiB${each}`,
    measured: `resident ${mib(before)} → ${mib(peak)} MiB: + ${grownMib.toFixed(0)}`,
    isHeld: grownMib <= MOST_GROWN_MIB + downloads,
    isTimed: grownMib <= GROSS.grownMib + downloads,
  }
}

export function linesCriterion({ lines }: Stage, { honest }: StageEnd): Criterion {
  const { answered } = honest
  const { dropped, faults } = lines
  const lost = answered.filter((id) => !lines.ids.has(id))
  return {
    bar: 'no line lost that is not anonymous',
    measured: `${lost.length} of ${answered.length} honest lines lost ${lost.slice(0, 3).join(' ')}; ${dropped.all} dropped, ${dropped.anonymous} of them anonymous; ${faults.length} lines are no JSON`,
    isHeld: lost.length === 0 && dropped.all === dropped.anonymous && faults.length === 0,
  }
}

/** A busy machine may refuse with 503; any other status is a failure. */
export function servedCriterion({ honest: { reports } }: StageEnd): Criterion {
  const kinds = ['heartbeats', 'refusals', 'admin'] as const
  const isServed = (kind: HonestKind) => {
    const { byStatus, ...report } = reports[kind]
    return servedAll({ ...report, byStatus: { 200: byStatus[HONEST[kind].status] ?? 0 } })
  }
  const isBusy = (kind: HonestKind) => {
    const { byStatus, sent, failed, shed } = reports[kind]
    const answered = (byStatus[HONEST[kind].status] ?? 0) + (byStatus[503] ?? 0)
    return failed === 0 && shed === 0 && answered === sent
  }
  const text = kinds.map((kind) => {
    const { byStatus, failed, shed } = reports[kind]
    return `${kind} ${JSON.stringify(byStatus)}, ${failed} failed, ${shed} shed`
  })
  return {
    bar: 'every honest request answered as it should be',
    measured: text.join('; '),
    isHeld: kinds.every(isServed),
    isTimed: kinds.every(isBusy),
  }
}

/** It exits on SIGTERM, and stderr holds nothing but its address. */
export function aliveCriterion({ lines }: Stage, { ended, notes }: StageEnd): Criterion {
  const said = notes
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('listening on '))
    .join(' / ')
  return {
    bar: 'the service lives',
    measured: `exit code ${ended.signal ?? ended.code} on SIGTERM, ${lines.events('http.error')} lines http.error${said === '' ? '' : `, said ${said.slice(-400)}`}`,
    isHeld: ended.code === 0,
  }
}
