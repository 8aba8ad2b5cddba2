/** Which known word a misspelt one probably means: for messages, whatever the case of its letters. */

/** Nobody mistypes a longer name, and the work stays small. */
const LETTERS_READ = 64
/** A word that begins with the other is nearer than two mistakes, not nearer than one. */
const PART_STEPS = 1.5

/** undefined where none is near: more than a third of its letters differ, and neither begins with the other. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const given = word.slice(0, LETTERS_READ).toLowerCase()
  let best: string | undefined
  let least = Number.POSITIVE_INFINITY
  for (const candidate of known) {
    const other = candidate.toLowerCase()
    const isPart =
      other !== given && given.length > 2 && (other.startsWith(given) || given.startsWith(other))
    const steps = isPart ? PART_STEPS : editSteps(given, other)
    if (steps >= least || (!isPart && steps > Math.max(given.length, other.length) / 3)) continue
    best = candidate
    least = steps
  }
  return best
}

/** Letters to insert, delete or replace (Levenshtein), one row at a time. */
export function editSteps(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let i = 1; i <= from.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= to.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}
