/** What a run of node executed of src, by V8's own coverage (NODE_V8_COVERAGE), which child processes write as well. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** start, end, start, end, …: ends exclusive, ascending. */
export type Spans = readonly number[]

export interface Coverage {
  /** Of each compiled file that was loaded, by its path from the root: what ran of its functions. */
  readonly ran: Readonly<Record<string, Spans>>
  /** Ranges of its functions; code outside of them runs whenever it is loaded. */
  readonly functions: Readonly<Record<string, Spans>>
}

interface Range {
  readonly startOffset: number
  readonly endOffset: number
  readonly count: number
}

interface Script {
  readonly url: string
  readonly functions: readonly { readonly ranges: readonly Range[] }[]
}

export function readCoverage(dir: string, root: string): Coverage {
  const ran = new Map<string, Uint8Array>()
  const functions = new Map<string, Uint8Array>()
  for (const name of readdirSync(dir)) {
    // A process that was killed left none, or not all of it.
    for (const script of readScripts(join(dir, name))) {
      if (!script.url.startsWith('file:')) continue
      const file = relative(root, fileURLToPath(script.url))
      if (!file.startsWith('build/src/')) continue
      const { executed, inFunctions } = paint(script)
      ran.set(file, either(ran.get(file), executed))
      functions.set(file, either(functions.get(file), inFunctions))
    }
  }
  return { ran: spansOfAll(ran), functions: spansOfAll(functions) }
}

export function contains(spans: Spans | undefined, at: number): boolean {
  return (spans ?? []).some(
    (start, index) => index % 2 === 0 && start <= at && at < (spans?.[index + 1] ?? 0),
  )
}

function readScripts(path: string): readonly Script[] {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).result
  } catch {
    return []
  }
}

/** One byte for each character; ranges nest, and the innermost one counts. */
function paint({ functions }: Script) {
  const [module] = functions
  const sizeBytes = module?.ranges[0]?.endOffset ?? 0
  const executed = new Uint8Array(sizeBytes)
  const inFunctions = new Uint8Array(sizeBytes)
  const own = functions.filter((one) => one !== module)
  for (const { ranges } of own) inFunctions.fill(1, ranges[0]?.startOffset, ranges[0]?.endOffset)
  const ranges = own.flatMap((one) => one.ranges)
  const inward = (a: Range, b: Range) => a.startOffset - b.startOffset || b.endOffset - a.endOffset
  for (const { startOffset, endOffset, count } of ranges.toSorted(inward)) {
    executed.fill(count > 0 ? 1 : 0, startOffset, endOffset)
  }
  return { executed, inFunctions }
}

function either(known: Uint8Array | undefined, more: Uint8Array): Uint8Array {
  return known === undefined ? more : known.map((byte, at) => byte | (more[at] ?? 0))
}

function spansOfAll(painted: ReadonlyMap<string, Uint8Array>): Readonly<Record<string, Spans>> {
  return Object.fromEntries([...painted].map(([file, bytes]) => [file, spansOf(bytes)]))
}

function spansOf(bytes: Uint8Array): Spans {
  const spans: number[] = []
  let before = 0
  for (const [at, byte] of bytes.entries()) {
    if (byte !== before) spans.push(at)
    before = byte
  }
  return before === 0 ? spans : [...spans, bytes.length]
}
