/**
 * Finds bodies in many small chunks (Transfer-Encoding). Node's parser hands over each piece of a chunk that it finds: 1 µs
 * and 300 bytes for one byte. A chunk that two packets carry is two pieces.
 */
import type { IncomingMessage } from 'node:http'

/** A body may have so many pieces of any length. */
const MAX_SMALL_CHUNKS = 256
/** Mean length of the pieces of a body that has more. */
const MIN_CHUNK_BYTES = 64

/** Calls `onTooSmall` with each piece of which the body has had too many for their length. */
export function watchChunks(request: IncomingMessage, onTooSmall: () => void): void {
  const { push } = request
  let pieces = 0
  let sizeBytes = 0
  request.push = (chunk: Buffer | null) => {
    pieces += 1
    sizeBytes += chunk?.length ?? 0
    if (pieces > MAX_SMALL_CHUNKS && sizeBytes < pieces * MIN_CHUNK_BYTES) onTooSmall()
    return push.call(request, chunk)
  }
}
