/** Finds the known word that a misspelt one probably means. Ignores case. */

/** Bounds the work. */
const MAX_LETTERS = 64
/** A word that begins with the other counts as nearer than two mistakes, but not as near as one. */
const PREFIX_STEPS = 1.5

/** Of equally near ones the first. undefined if none is near: more than a third of the letters differ, and neither word begins with the other. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const given = word.slice(0, MAX_LETTERS).toLowerCase()
  let best: string | undefined
  let least = Number.POSITIVE_INFINITY
  for (const candidate of known) {
    const other = candidate.toLowerCase()
    const isPrefix =
      other !== given && given.length > 2 && (other.startsWith(given) || given.startsWith(other))
    const mistakes = editSteps(given, other)
    const steps = isPrefix ? Math.min(mistakes, PREFIX_STEPS) : mistakes
    if (steps >= least || (!isPrefix && steps > Math.max(given.length, other.length) / 3)) continue
    best = candidate
    least = steps
  }
  return best
}

/** Levenshtein distance, one row at a time; two letters that changed places are one step. */
export function editSteps(from: string, to: string): number {
  let before: readonly number[] = []
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let i = 1; i <= from.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= to.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      const isSwapped = from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]
      const swapped = isSwapped ? (before[j - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY
      next.push(Math.min(replaced, swapped, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    before = row
    row = next
  }
  return row[to.length] ?? 0
}
