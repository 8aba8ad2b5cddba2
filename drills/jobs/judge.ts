/** Compares what a job says of itself with what its phones know. */
import type { JobView } from './admin.ts'
import { COMMON_FAILURE, type Phones, type Ran } from './phones.ts'

/** The drill's admin asked for this. `changing`: a pause or a resume is not acknowledged yet. */
export type Asked = 'running' | 'changing' | 'paused'

export interface JudgeOptions {
  readonly jobId: string
  readonly phones: Phones
  readonly ttlS: number
}

export interface Judge {
  /** To be called before a read is sent; judges its response. */
  begin(asked: Asked): (view: JobView, asked: Asked) => void
  readonly reads: number
  readonly verdicts: ReadonlyMap<string, number>
  readonly faults: readonly string[]
}

/** The sweep expires a command within 5 s; replicas die meanwhile. */
const SWEPT_MS = 15_000

interface Known {
  readonly atMs: number
  readonly completed: number
  readonly failed: number
  readonly ran: number
}

export function createJudge({ jobId, phones, ttlS }: JudgeOptions): Judge {
  const faults: string[] = []
  const verdicts = new Map<string, number>()
  const createdAtMs = Date.now()
  let allReleasedAtMs: number | undefined
  let reads = 0

  const mine = () =>
    [...phones.ran].flatMap(([id, ran]) => (id.startsWith(`${jobId}.`) ? [ran] : []))
  const countOf = (outcome: string, all: readonly Ran[]) =>
    all.filter((ran) => (ran.outcome === 'success') === (outcome === 'success')).length
  function known(isSure: boolean): Known {
    const all = mine()
    const counted = isSure ? all.filter(({ isReported }) => isReported) : all
    return {
      atMs: Date.now(),
      completed: countOf('success', counted),
      failed: countOf('failure', counted),
      ran: all.length,
    }
  }

  /** Verdicts that are true at that moment. */
  function possible(view: JobView, before: Known, askedBefore: Asked, askedAfter: Asked) {
    const codes: string[] = []
    if (askedBefore !== 'running' || askedAfter !== 'running') codes.push('paused_by_admin')
    if (askedBefore === 'paused' && askedAfter === 'paused') return codes
    if (view.counts['waiting'] !== 0) return [...codes, 'releasing']
    allReleasedAtMs ??= Date.now()
    if (view.state === 'done') return ['done_with_failures']
    const isSweepDue = before.atMs >= allReleasedAtMs + ttlS * 1_000 + SWEPT_MS
    const hasOffline = phones.offline > (isSweepDue ? (view.counts['expired'] ?? 0) : 0)
    const isSurelyOffline = phones.offline > 0 && Date.now() < createdAtMs + ttlS * 1_000
    if (hasOffline) codes.push('waiting_for_devices')
    if (!isSurelyOffline) codes.push('waiting_for_results')
    return codes
  }

  function check(view: JobView, before: Known, askedBefore: Asked, askedAfter: Asked): void {
    const after = known(false)
    const { counts, verdict } = view
    const must = (holds: boolean, what: string) => {
      if (!holds) faults.push(`${what}: ${JSON.stringify(view)}`)
    }
    const sum = Object.values(counts).reduce((total, count) => total + count, 0)
    must(sum === view.devices, `the counts sum up to ${sum}`)
    must(view.devices - view.released === counts['waiting'], 'waiting is not what is unreleased')
    must(before.ran <= view.released, `${before.ran} ran before`)
    for (const status of ['completed', 'failed'] as const) {
      const count = counts[status] ?? 0
      const isTrue = before[status] <= count && count <= after[status]
      must(isTrue, `${status} is not within ${before[status]} and ${after[status]}`)
    }
    const codes = possible(view, before, askedBefore, askedAfter)
    must(codes.includes(verdict.code), `the verdict is not ${codes.join(' or ')}`)
    if (verdict.code === 'releasing') {
      must(verdict.detail.startsWith(`${counts['waiting']} left`), 'another number is left')
    }
    if (verdict.code === 'done_with_failures') checkFailure(view, mine(), must)
  }

  return {
    begin(askedBefore) {
      const before = known(true)
      return (view, askedAfter) => {
        reads += 1
        verdicts.set(view.verdict.code, (verdicts.get(view.verdict.code) ?? 0) + 1)
        check(view, before, askedBefore, askedAfter)
      }
    },
    get reads() {
      return reads
    },
    verdicts,
    faults,
  }
}

/** How many phones told the commonest failure, unless more commands expired. */
function checkFailure(
  { verdict, counts }: JobView,
  all: readonly Ran[],
  must: (holds: boolean, what: string) => void,
): void {
  const saying = all.filter(({ message }) => message === COMMON_FAILURE)
  const least = saying.filter(({ isReported }) => isReported).length
  const expired = counts['expired'] ?? 0
  const form = new RegExp(`"${COMMON_FAILURE}" \\((\\d+)\\)`)
  const told = form.exec(verdict.detail)?.[1]
  if (told === undefined) {
    must(expired > least && verdict.detail.includes(`(${expired})`), `${least} said so`)
  } else {
    const isTrue = least <= Number(told) && Number(told) <= saying.length
    must(isTrue && Number(told) >= expired, `from ${least} to ${saying.length} said so`)
  }
}
