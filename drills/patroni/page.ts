/** The files shown in docs/operate/scale.md, verbatim and adapted to a drill. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const PAGE = fileURLToPath(new URL('docs/operate/scale.md', import.meta.resolve('#package.json')))

/** The fenced block of the page with this name. */
export function pageFile(name: string): string {
  const fence = '```'
  const [block, ...more] = readFileSync(PAGE, 'utf8')
    .split(/^(?=```)/m)
    .filter((part) => part.startsWith(fence) && part.split('\n', 1)[0]?.endsWith(` ${name}`))
  if (block === undefined || more.length > 0) throw new Error(`scale.md has no one block ${name}`)
  return block.slice(block.indexOf('\n') + 1)
}

/** Adapts `text`, which is pg1's, to machine `index` (from 1). */
export function ofMachine(text: string, index: number): string {
  const lines = text.split('\n').map((line) => {
    if (/^ *(hosts|initial-cluster):/.test(line)) return line
    return line.replace(/\bpg1\b/g, `pg${index}`).replaceAll('10.0.0.11', `10.0.0.1${index}`)
  })
  return lines.join('\n')
}

/** Replaces every `from`; throws if one is missing, so that page and drill cannot diverge. */
export function replaced(text: string, pairs: readonly (readonly [string, string])[]): string {
  return pairs.reduce((done, [from, to]) => {
    if (!done.includes(from)) throw new Error(`scale.md does not say "${from}" any more`)
    return done.replaceAll(from, to)
  }, text)
}
