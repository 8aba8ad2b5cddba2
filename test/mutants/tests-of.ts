/** Which test files run the place of a change, those first that are most likely to see it. */
import { readFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { type Coverage, contains, type Spans } from './coverage.ts'
import { type Change, compiledPath, type Source } from './sources.ts'

/** A test file as it ran without a change. */
export interface Measured {
  /** Of its text. */
  readonly hash: string
  readonly ms: number
  /** A test that fails without the mutant judges nothing. */
  readonly isOk: boolean
  readonly ran: Coverage['ran']
}

export interface Chosen {
  readonly tests: readonly string[]
  /** The first so many import the changed file or are named like it. */
  readonly direct: number
}

interface Place {
  readonly file: string
  readonly at: number
}

export function chooser(
  sources: readonly Source[],
  functions: Readonly<Record<string, Spans>>,
  measured: Readonly<Record<string, Measured>>,
) {
  const named = occurrences(sources)
  const able = Object.entries(measured).filter(([, { isOk }]) => isOk)
  const texts = new Map(able.map(([test]) => [test, readFileSync(test, 'utf8')]))
  const isInFunction = ({ file, at }: Place) => contains(functions[compiledPath(file)], at)

  /**
   * A constant of a module is computed when that is loaded, by all tests. So what counts is who uses it, through other
   * constants too.
   */
  function uses(place: Place, seen: Set<string>): readonly Place[] {
    if (isInFunction(place)) return [place]
    const name = sources.find(({ file }) => file === place.file)
    const declared = name && declaredAt(name, place.at)
    if (declared === undefined || seen.has(declared)) return []
    seen.add(declared)
    return (named.get(declared) ?? []).flatMap((other) => uses(other, seen))
  }

  return ({ file, compiledAt }: Change): Chosen => {
    const places = uses({ file, at: compiledAt }, new Set())
    const runs = ([, { ran }]: [string, Measured]) =>
      places.length > 0
        ? places.some((place) => contains(ran[compiledPath(place.file)], place.at))
        : compiledPath(file) in ran
    const own = `/${file.replace(/\.ts$/, '.js')}'`
    const stem = basename(file, '.ts')
    const isDirect = ([test]: [string, Measured]) =>
      texts.get(test)?.includes(own) === true || isNamedLike(stem, basename(test, '.test.js'))
    const isNear = ([test]: [string, Measured]) => folderOf(test) === folderOf(file)
    const rank = (one: [string, Measured]) => (isDirect(one) ? 0 : isNear(one) ? 1 : 2)
    const running = able.filter(runs)
    // A test may run a copy that it makes elsewhere, which coverage does not know.
    const chosen = running.length > 0 ? running : able.filter(isDirect)
    const all = chosen.toSorted((a, b) => rank(a) - rank(b) || a[1].ms - b[1].ms)
    return { tests: all.map(([test]) => test), direct: all.filter(isDirect).length }
  }
}

/** `db`, both of src/db/postgres/pool.ts and of build/test/db/pool.test.js; else that of all top-level files. */
function folderOf(path: string): string {
  return basename(dirname(path)).replace(/^(?:src|test)$/, '')
}

/** heartbeats, heartbeat-body and heartbeat-order. */
function isNamedLike(source: string, test: string): boolean {
  const subject = (name: string) => name.replace(/-.*/, '').replace(/s$/, '')
  return subject(source) === subject(test)
}

/** Of each word: where it stands. */
function occurrences(sources: readonly Source[]): ReadonlyMap<string, readonly Place[]> {
  const named = new Map<string, Place[]>()
  for (const { file, compiled } of sources) {
    for (const { kind, text, start } of compiled.all) {
      if (kind !== 'word') continue
      const places = named.get(text) ?? []
      named.set(text, places)
      places.push({ file, at: start })
    }
  }
  return named
}

/** The name of the module's constant that the place is part of. */
function declaredAt({ compiled }: Source, at: number): string | undefined {
  const { all, partners } = compiled
  for (let index = 0; index < all.length; index += 1) {
    const [token, name] = [all[index], all[index + 1]]
    if (token === undefined || token.start > at) return undefined
    if (token.text === 'const' || token.text === 'let') {
      let end = index
      while (end < all.length && all[end]?.text !== ';')
        end = Math.max(end, partners.get(end) ?? 0) + 1
      if (at < (all[end]?.end ?? 0)) return name?.text
      index = end
    } else index = Math.max(index, partners.get(index) ?? 0)
  }
  return undefined
}
