/**
 * Process warnings (MaxListenersExceededWarning, for example): each points at something without a bound, so each is a
 * fault, in this process and in every child whose stderr is a pipe. Development code.
 */
import { watchChildren } from './child-output.ts'

/** Node's format: `(node:123) [DEP0001] DeprecationWarning: …`. */
const PRINTED = /^\(node:\d+\) (?:\[\w+\] )?\w+: /
/** Longer than any line that Node prints. */
const MAX_LINE = 10_000

/** Collects each later warning, with the command that printed it. */
export function collectWarnings(): readonly string[] {
  const warnings: string[] = []
  process.on('warning', ({ stack, message }) => void warnings.push(stack ?? message))
  watchChildren(({ command }) => {
    let rest = ''
    return (pipe, chunk) => {
      if (pipe !== 'stderr') return
      const lines = (rest + (chunk?.toString('latin1') ?? '\n')).split('\n')
      rest = (lines.pop() ?? '').slice(0, MAX_LINE)
      for (const line of lines) if (PRINTED.test(line)) warnings.push(`${command}: ${line}`)
    }
  })
  return warnings
}
