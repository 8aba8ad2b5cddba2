/** The journal of a reader: a line for each batch, with the cursor behind it and its events. */
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
} from 'node:fs'

/** How a reader asks. */
export type Manner = 'poll' | 'filter' | 'stream'

export interface Batch {
  readonly cursor: string
  /** `c` or `r` (created, revoked) with the token's id. */
  readonly told: readonly string[]
}

export const lineOf = ({ cursor, told }: Batch) => `${cursor} ${told.join(' ')}\n`

/** Longer than any line. */
const TAIL_BYTES = 64 * 1024

/** Cuts off a line that its writer could not finish; returns the last cursor, or an empty text. */
export function repairJournal(file: string): string {
  if (!existsSync(file)) return ''
  const { size } = statSync(file)
  const tail = Buffer.alloc(Math.min(size, TAIL_BYTES))
  const fd = openSync(file, 'r')
  readSync(fd, tail, 0, tail.length, size - tail.length)
  closeSync(fd)
  const whole = tail.lastIndexOf('\n') + 1
  truncateSync(file, size - tail.length + whole)
  return lastCursor(tail.toString('latin1', 0, whole))
}

function lastCursor(text: string): string {
  const [cursor = ''] = text.slice(text.lastIndexOf('\n', text.length - 2) + 1).split(' ')
  return cursor
}

/** As far as it is whole. */
export function readJournal(file: string): { readonly cursor: string; readonly told: string[] } {
  if (!existsSync(file)) return { cursor: '', told: [] }
  const told: string[] = []
  let cursor = ''
  for (const line of readFileSync(file, 'latin1').split('\n').slice(0, -1)) {
    const [next = '', ...more] = line.split(' ')
    cursor = next
    for (const one of more) if (one !== '') told.push(one)
  }
  return { cursor, told }
}
