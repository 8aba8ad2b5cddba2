/** A sample of all changes: each is made, and test files that run its place are run until one fails. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { seededRandom } from '../../testkit/random.ts'
import { testFiles } from '../runner/test-files.ts'
import { type Crew, FILE_TIMEOUT_MS, inParallel, named, print } from './crew.ts'
import { report, shown } from './report.ts'
import { type Change, changed, readSources } from './sources.ts'
import { hashOf, idOf, openState, type State, type Verdict } from './state.ts'
import { type Chosen, chooser, type Measured } from './tests-of.ts'
import type { Workspace } from './workspace.ts'

export interface Sample {
  readonly seed: number
  /** Of those that compile. */
  readonly count: number
  /** How a file's path begins. */
  readonly only: string
  /** Test files that neither import the changed file nor share its name. */
  readonly budgetMs: number
}

/** Tests that depend on how busy the machine is: whether they fail says nothing. */
const LOAD_DEPENDENT = /process\/(?:supervisor|attacks)\.test|so many requests wait for news/
/** Beyond four times what it took without a change. */
const PATIENCE_MS = 20_000

export async function judgeChanges(crew: Crew, sample: Sample): Promise<void> {
  const sources = readSources('.')
  const texts = new Map(sources.map(({ file, text }) => [file, text]))
  const { state, add } = openState(hashOf(...texts.values(), ...sqlTexts()))
  const hashes = new Map(testFiles().map((test) => [test, hashOf(readFileSync(test))]))
  const files = [...hashes.keys()].filter((test) => !LOAD_DEPENDENT.test(test))
  await measureAll({ ...crew, part: 1, parts: 1 }, files, hashes, state, add)
  const measured: Record<string, Measured> = {}
  for (const test of files) {
    const known = state.measured[test]
    if (known?.hash === hashes.get(test) && known !== undefined) measured[test] = known
  }
  const missing = files.length - Object.keys(measured).length
  if (missing > 0) return print(`${missing} of ${files.length} test files are to be measured yet`)

  const choose = chooser(sources, state.functions, measured)
  const all = sources.flatMap(({ changes }) => changes)
  const ordered = shuffled(
    all.filter(({ file }) => file.startsWith(sample.only)),
    sample.seed,
  )
  const testsOf = ({ tests }: Chosen) => hashOf(...tests.map((test) => test + hashes.get(test)))
  const verdictOf = (change: Change) => state.verdicts[idOf(change)]
  const isStale = (change: Change) => {
    const verdict = verdictOf(change)
    if (verdict?.outcome !== 'survived') return false
    const isWider = verdict.ran < verdict.of && verdict.budgetMs < sample.budgetMs
    return isWider || verdict.tests !== testsOf(choose(change))
  }
  const judgeOne = async (change: Change, workspace: Workspace) => {
    const chosen = choose(change)
    const text = texts.get(change.file) ?? ''
    const { budgetMs } = sample
    const found = await judge(change, text, chosen, measured, budgetMs, workspace)
    if (crew.over.aborted) return
    add({ verdicts: { [idOf(change)]: { ...found, tests: testsOf(chosen), budgetMs } } })
    const by = found.by === undefined ? '' : `${named(found.by)}: ${found.why}`
    const { line } = shown(change, text)
    print(`${found.outcome.padEnd(8)} ${change.file}:${line} ${change.kind}  ${by}`)
  }

  const compiling = () => sampled(ordered, verdictOf, sample.count)
  let ours = 0
  await inParallel(
    crew,
    ordered,
    async (change, workspace) => {
      if (verdictOf(change) === undefined) await judgeOne(change, workspace)
      if (verdictOf(change)?.outcome !== 'refused') ours += 1
    },
    () => ours * crew.parts >= sample.count,
  )
  const stale = compiling().flatMap(([change]) => (isStale(change) ? [change] : []))
  await inParallel(crew, stale, judgeOne)
  report(texts, compiling(), { ...sample, of: ordered.length })
}

/** The first so many that compile, as far as they are judged. */
function sampled(
  ordered: readonly Change[],
  verdictOf: (change: Change) => Verdict | undefined,
  count: number,
): readonly (readonly [Change, Verdict])[] {
  const judged: [Change, Verdict][] = []
  for (const change of ordered) {
    const verdict = verdictOf(change)
    if (verdict === undefined || judged.length === count) break
    if (verdict.outcome !== 'refused') judged.push([change, verdict])
  }
  return judged
}

/** Those that have changed since they were measured. */
async function measureAll(
  crew: Crew,
  files: readonly string[],
  hashes: ReadonlyMap<string, string>,
  state: State,
  add: (found: Partial<State>) => void,
): Promise<void> {
  await inParallel(crew, files, async (test, workspace) => {
    const hash = hashes.get(test) ?? ''
    if (state.measured[test]?.hash === hash) return
    const { ms, isOk, failures, coverage } = await workspace.measure(test, FILE_TIMEOUT_MS)
    if (crew.over.aborted) return
    if (!isOk) print(`left out, since it fails by itself: ${named(test)}: ${failures[0]}`)
    const { ran, functions } = coverage
    add({ measured: { [test]: { hash, ms, isOk, ran } }, functions })
  })
}

async function judge(
  change: Change,
  text: string,
  { tests, direct }: Chosen,
  measured: Readonly<Record<string, Measured>>,
  budgetMs: number,
  workspace: Workspace,
): Promise<Omit<Verdict, 'tests' | 'budgetMs'>> {
  const of = tests.length
  try {
    const isMade = await workspace.change(change.file, changed(text, change))
    if (!isMade) return { outcome: 'refused', ran: 0, of }
    let [ran, spentMs] = [0, 0]
    for (const test of tests) {
      const ms = measured[test]?.ms ?? 0
      if (ran >= direct && spentMs + ms > budgetMs) break
      ran += 1
      spentMs += ms
      const limitMs = Math.min(FILE_TIMEOUT_MS, PATIENCE_MS + 4 * ms)
      const first = await workspace.run(test, limitMs)
      if (first.isOk || LOAD_DEPENDENT.test(first.failures[0] ?? '')) continue
      // Where others saw nothing, once may be chance; so may be the end of the time.
      const isPlain = ran === 1 && !first.isLate
      const again = isPlain ? first : await workspace.run(test, limitMs)
      if (again.isOk) continue
      return { outcome: 'caught', by: test, why: again.failures[0] ?? '', ran, of }
    }
    return { outcome: 'survived', ran, of }
  } finally {
    workspace.restore()
  }
}

/** The same for the same seed. */
function shuffled<Item>(items: readonly Item[], seed: number): readonly Item[] {
  const random = seededRandom(seed)
  return items
    .map((item) => ({ item, key: random() }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ item }) => item)
}

function sqlTexts(): readonly Buffer[] {
  return readdirSync('sql')
    .sort()
    .map((name) => readFileSync(join('sql', name)))
}
