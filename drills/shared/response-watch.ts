/** A load's responses, phase by phase: codes, latency, and whether refusals say when to retry. */

import type { LoadResponse } from '../../sim/load/load.ts'
import { asJsonObject, textOf } from '../../testkit/http/client.ts'

export interface Phase {
  /** Counts by `200`, `503 db_unavailable` and so on. */
  readonly byCode: Readonly<Record<string, number>>
  /** Since the request was due. */
  readonly slowestMs: number
  /** Later than MAX_RESPONSE_MS. */
  readonly late: number
  /** 429 and 503 without Retry-After. */
  readonly mute: number
}

/** Bound on every response, whatever the database does (R3). */
export const MAX_RESPONSE_MS = 2_000

export class ResponseWatch {
  #byCode: Record<string, number> = {}
  #slowestMs = 0
  #late = 0
  #mute = 0
  #onSuccess: (() => void) | undefined
  readonly #phases: Phase[] = []

  readonly take = ({ status, retryAfterS, latencyMs, body }: LoadResponse): void => {
    const code = status < 400 ? '' : codeOf(body)
    const key = code === '' ? String(status) : `${status} ${code}`
    this.#byCode[key] = (this.#byCode[key] ?? 0) + 1
    this.#slowestMs = Math.max(this.#slowestMs, latencyMs)
    if (latencyMs > MAX_RESPONSE_MS) this.#late += 1
    if ((status === 429 || status === 503) && retryAfterS === null) this.#mute += 1
    if (status < 300) this.#onSuccess?.()
  }

  /** Ends the phase: what came since the last call. */
  end(): Phase {
    const phase = {
      byCode: this.#byCode,
      slowestMs: this.#slowestMs,
      late: this.#late,
      mute: this.#mute,
    }
    this.#byCode = {}
    this.#slowestMs = 0
    this.#late = 0
    this.#mute = 0
    this.#phases.push(phase)
    return phase
  }

  /** All phases that have ended. */
  get sum(): Phase {
    return sumOf(this.#phases)
  }

  /** Resolves at the next 2xx. */
  success(): Promise<void> {
    return new Promise((resolve) => {
      this.#onSuccess = resolve
    })
  }
}

export function sumOf(phases: readonly Phase[]): Phase {
  const byCode: Record<string, number> = {}
  for (const phase of phases) {
    for (const [code, count] of Object.entries(phase.byCode)) {
      byCode[code] = (byCode[code] ?? 0) + count
    }
  }
  return {
    byCode,
    slowestMs: Math.max(0, ...phases.map(({ slowestMs }) => slowestMs)),
    late: phases.reduce((sum, { late }) => sum + late, 0),
    mute: phases.reduce((sum, { mute }) => sum + mute, 0),
  }
}

/** Sorted, as `200 × 1200, 503 db_unavailable × 300`. */
export function codesText({ byCode }: Phase): string {
  const codes = Object.entries(byCode).sort(([a], [b]) => (a < b ? -1 : 1))
  return codes.map(([code, count]) => `${code} × ${count}`).join(', ') || 'none'
}

function codeOf(body: Buffer): string {
  try {
    return textOf(asJsonObject(JSON.parse(body.toString('utf8'))) ?? {}, 'code')
  } catch {
    return ''
  }
}
