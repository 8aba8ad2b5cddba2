/** Several workspaces at work, until the time is over. */
import type { Workspace } from './workspace.ts'

export interface Crew {
  readonly workspaces: readonly Workspace[]
  readonly over: AbortSignal
  /** Ours of so many: each run of several at once has every so-manieth item. From 1 on. */
  readonly part: number
  readonly parts: number
}

/** Of one test file. */
export const FILE_TIMEOUT_MS = 120_000
/** Of `npm test` with one file: it has this limit itself, ends the file, and then prints the file's output. */
export const SUITE_TIMEOUT_MS = FILE_TIMEOUT_MS + 30_000

/** Each of our part of `items`, on the next workspace that is free; until the time is over or `isEnough`. */
export async function inParallel<Item>(
  { workspaces, over, part, parts }: Crew,
  items: readonly Item[],
  work: (item: Item, workspace: Workspace) => Promise<void>,
  isEnough = () => false,
): Promise<void> {
  const left = items.filter((_, index) => index % parts === part - 1)
  const workers = workspaces.map(async (workspace) => {
    while (!over.aborted && !isEnough()) {
      const item = left.shift()
      if (item === undefined) return
      await work(item, workspace)
    }
  })
  await Promise.all(workers)
}

/** `build/test/loop.test.js` as it is written. */
export function named(test: string): string {
  return test.replace(/^build\/(.*)\.js$/, '$1.ts')
}

export function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
