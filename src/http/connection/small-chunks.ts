/** Finds bodies in many small chunks (Transfer-Encoding). Node's parser hands over each chunk: 1 µs and 300 bytes for one byte. */
import type { IncomingMessage } from 'node:http'

/** A body may have so many chunks of any length. */
const MAX_SMALL_CHUNKS = 256
/** Mean length of the chunks of a body that has more. */
const MIN_CHUNK_BYTES = 64

/** Calls `onTooSmall` with each chunk of which the body has had too many for their length. */
export function watchChunks(request: IncomingMessage, onTooSmall: () => void): void {
  const { push } = request
  let chunks = 0
  let sizeBytes = 0
  request.push = (chunk: Buffer | null) => {
    chunks += 1
    sizeBytes += chunk?.length ?? 0
    if (chunks > MAX_SMALL_CHUNKS && sizeBytes < chunks * MIN_CHUNK_BYTES) onTooSmall()
    return push.call(request, chunk)
  }
}
