/**
 * How many `http.error` lines are written: of each code at most so many a second, the rest is counted into the
 * next line of that code (telemetry.md), so that an outage does not crowd out the lines that explain it.
 */
const MAX_LINES_PER_S = 10

/** Lines left out since the last one of this code, if one more may be written; else undefined, and it counts. */
export type ErrorLimit = (code: string) => number | undefined

/** Codes come from the closed list of ErrorCode, so what is kept is bounded. `nowMs` is monotonic. */
export function createErrorLimit(nowMs: () => number): ErrorLimit {
  const known = new Map<string, { sinceMs: number; lines: number; suppressed: number }>()

  return (code) => {
    let state = known.get(code)
    if (state === undefined) {
      state = { sinceMs: nowMs(), lines: 0, suppressed: 0 }
      known.set(code, state)
    } else if (nowMs() - state.sinceMs >= 1000) {
      state.sinceMs = nowMs()
      state.lines = 0
    }
    if (state.lines === MAX_LINES_PER_S) {
      state.suppressed++
      return undefined
    }
    state.lines++
    const { suppressed } = state
    state.suppressed = 0
    return suppressed
  }
}
