/** What became of a sample of changes, and each that no test noticed. */
import { print } from './crew.ts'
import { type Change, changed } from './sources.ts'
import type { Verdict } from './state.ts'

const MOST_SHOWN = 300

export function report(
  texts: ReadonlyMap<string, string>,
  judged: readonly (readonly [Change, Verdict])[],
  sample: { readonly seed: number; readonly count: number; readonly of: number },
): void {
  const survivors = judged.filter(([, { outcome }]) => outcome === 'survived')
  for (const [change, { ran, of }] of survivors) {
    const { line, before, after } = shown(change, texts.get(change.file) ?? '')
    print(`\nsurvived ${change.file}:${line} ${change.kind}`)
    print(`  - ${before}\n  + ${after}`)
    print(
      of === 0 ? '  no test runs it' : `  not seen by ${ran} of the ${of} test files that run it`,
    )
  }
  const caught = judged.length - survivors.length
  const percent = ((100 * caught) / Math.max(1, judged.length)).toFixed(1)
  const files = new Set(judged.map(([{ file }]) => file)).size
  print(
    `\nseed ${sample.seed}: ${judged.length} changes in ${files} files, of ${sample.of} possible`,
  )
  print(`${caught} caught (${percent} %), ${survivors.length} survived`)
  const left = sample.count - judged.length
  if (left > 0) print(`${left} are to be judged yet: run it again`)
}

/** The lines that differ, on one. */
export function shown(change: Change, text: string) {
  const from = text.lastIndexOf('\n', change.start - 1) + 1
  const end = text.indexOf('\n', change.end)
  const behind = end === -1 ? text.length : end
  const growth = change.text.length - (change.end - change.start)
  const line = text.slice(0, change.start).split('\n').length
  return {
    line,
    before: onOneLine(text.slice(from, behind)),
    after: onOneLine(changed(text, change).slice(from, behind + growth)),
  }
}

function onOneLine(lines: string): string {
  return lines
    .trim()
    .replace(/\s*\n\s*/g, ' ⏎ ')
    .slice(0, MOST_SHOWN)
}
