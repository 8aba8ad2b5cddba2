/** A bar of progress. */

const BAR_CELLS = 20

/** `[######....] 20 %`; `share` from 0 to 1. */
export function bar(share: number): string {
  const full = Math.floor(share * BAR_CELLS)
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}] ${Math.floor(share * 100)} %`
}
