/** Lines of a file that grows: cut (copytruncate), renamed and replaced by a new one (logrotate's default), or missing for a while. */
import { type FileHandle, open, stat } from 'node:fs/promises'
import { errorText } from '../../lib/error-text.ts'
import { sleep } from '../../lib/timeouts.ts'
import { visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'

const POLL_MS = 250
const READ_BYTES = 64 * 1024
/** A longer line is none of ours; it is cut. */
const MAX_LINE = 1024 * 1024

/** Between what was there and what comes. */
export const END = Symbol('end')

/** Goes on until the caller stops. Throws UsageError if there is no such file at first. */
export async function* follow(path: string): AsyncGenerator<string | typeof END> {
  let file = await open(path).catch((error) => {
    throw new UsageError(`${visible(path)} cannot be read: ${visible(errorText(error))}`)
  })
  let reader = createReader(file)
  let isFirst = true
  let next: FileHandle | undefined
  try {
    for (;;) {
      const lines = await reader.read()
      if (lines !== undefined) {
        yield* lines
        continue
      }
      if (next !== undefined) {
        // The old file was read to its end once more after the new one was there.
        yield* reader.rest()
        await file.close()
        file = next
        reader = createReader(file)
        next = undefined
        continue
      }
      if (isFirst) yield END
      isFirst = false
      await sleep(POLL_MS)
      next = await successor(path, file)
      if (next === undefined) await reader.restartIfCut()
    }
  } finally {
    await file.close()
    await next?.close()
  }
}

/** The file that has the path now; undefined while it is the same one, none, or empty: its writer still has the old one. */
async function successor(path: string, file: FileHandle): Promise<FileHandle | undefined> {
  try {
    const [now, ours] = await Promise.all([stat(path), file.stat()])
    if (now.size === 0 || (now.ino === ours.ino && now.dev === ours.dev)) return undefined
    return await open(path)
  } catch {
    return undefined
  }
}

function createReader(file: FileHandle) {
  const buffer = Buffer.alloc(READ_BYTES)
  let decoder = new TextDecoder()
  let position = 0
  let rest = ''

  return {
    /** Whole lines; undefined at the end of the file. */
    async read(): Promise<readonly string[] | undefined> {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, position)
      if (bytesRead === 0) return undefined
      position += bytesRead
      const text = rest + decoder.decode(buffer.subarray(0, bytesRead), { stream: true })
      const lines = text.split('\n')
      rest = (lines.pop() ?? '').slice(0, MAX_LINE)
      return lines
    },

    /** The last line, if no newline ends it. */
    rest: (): readonly string[] => (rest === '' ? [] : [rest]),

    async restartIfCut(): Promise<void> {
      if ((await file.stat()).size >= position) return
      position = 0
      rest = ''
      decoder = new TextDecoder()
    },
  }
}
