/** RFC 3339 timestamps. The text is cached for a millisecond, most of it for a second. */

/** Formats epoch milliseconds as `2026-01-31T09:15:27.042Z`. Never throws: a value out of range gives the epoch. */
export function createTimestamp(): (epochMs: number) => string {
  let lastMs = Number.NaN
  let lastText = ''
  let lastSecond = Number.NaN
  let secondText = ''

  return (epochMs) => {
    if (epochMs === lastMs) return lastText
    const ms = Math.abs(epochMs) <= MAX_EPOCH_MS ? Math.floor(epochMs) : 0
    const second = Math.floor(ms / 1000)
    if (second !== lastSecond) {
      lastSecond = second
      secondText = new Date(second * 1000).toISOString().slice(0, -4)
    }
    lastMs = epochMs
    lastText = `${secondText}${String(ms - second * 1000).padStart(3, '0')}Z`
    return lastText
  }
}

/** The range of a Date, ECMA-262 section 21.4.1.1. */
const MAX_EPOCH_MS = 8.64e15
