/** What earlier runs found out about the same sources, so that the next one goes on from there. */
import { createHash } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Spans } from './coverage.ts'
import type { Change } from './sources.ts'
import type { Measured } from './tests-of.ts'

export interface Verdict {
  /** Refused: it does not compile. */
  readonly outcome: 'caught' | 'survived' | 'refused'
  /** The test file that caught it. */
  readonly by?: string
  /** The title of the test in it. */
  readonly why?: string
  /** Of those that run the place: how many were run. */
  readonly ran: number
  readonly of: number
  /** Of the test files chosen: what survived is judged again where they have changed, or where more of them may run. */
  readonly tests: string
  readonly budgetMs: number
}

export interface State {
  readonly measured: Record<string, Measured>
  readonly functions: Record<string, Spans>
  readonly verdicts: Record<string, Verdict>
}

export function hashOf(...texts: readonly (string | Buffer)[]): string {
  const hash = createHash('sha256')
  for (const text of texts) hash.update(text).update('\0')
  return hash.digest('hex').slice(0, 16)
}

export function idOf({ file, start, kind, text }: Change): string {
  return [file, start, kind, text].join(':')
}

/** `sources`: the hash of all that is changed or run. */
export function openState(sources: string) {
  const path = join(tmpdir(), `fleetloop-mutants-${sources}.json`)
  const state: State = read(path) ?? { measured: {}, functions: {}, verdicts: {} }
  /** Adds to what this run knows, and to what another one has found out meanwhile. */
  const add = (found: Partial<State>) => {
    merge(state, found)
    const all = read(path) ?? state
    merge(all, found)
    const draft = `${path}.${process.pid}`
    writeFileSync(draft, JSON.stringify(all))
    renameSync(draft, path)
  }
  return { state, add }
}

function merge(state: State, found: Partial<State>): void {
  Object.assign(state.measured, found.measured)
  Object.assign(state.functions, found.functions)
  Object.assign(state.verdicts, found.verdicts)
}

function read(path: string): State | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined // the first run
  }
}
