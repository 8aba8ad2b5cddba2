/** Ids that a server acknowledged, one per line, for comparison with the database. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'

export interface LoadJournal {
  /** In the kernel when it returns, so a kill of this process loses none. `id` has no line break. */
  acknowledge(id: string): void
  close(): void
}

/** Appends to `path`, which it creates if missing. */
export function openJournal(path: string): LoadJournal {
  const fd = openSync(path, 'a')
  return {
    acknowledge: (id) => void writeSync(fd, `${id}\n`),
    close: () => closeSync(fd),
  }
}

/** Whole lines only: an id cut off by a kill was not acknowledged. */
export function readJournal(path: string): readonly string[] {
  return readFileSync(path, 'utf8').split('\n').slice(0, -1)
}
