/** Messages for invalid command lines. */
import { nearest } from '../lib/nearest.ts'
import { visible } from './terminal/text.ts'

/** An invalid command line or environment: exit code 2. The message says what to give. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** ` Is --status meant?`, where `before` is `--`; empty if nothing known is near. */
export function question(word: string, known: readonly string[], before = ''): string {
  const meant = nearest(word, known)
  return meant === undefined ? '' : ` Is ${before}${meant} meant?`
}

/** Otherwise the last one would silently win. Throws UsageError. */
export function refuseTwice(names: readonly string[], message: (name: string) => string): void {
  const seen = new Set<string>()
  const twice = names.find((name) => seen.size === seen.add(name).size)
  if (twice !== undefined) throw new UsageError(message(visible(twice)))
}
