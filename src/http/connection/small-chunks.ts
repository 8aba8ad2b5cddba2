/**
 * Finds bodies in many small chunks (Transfer-Encoding). Node's parser hands over each piece of a chunk on its own:
 * one byte costs 1 µs and 300 bytes of memory. A chunk that two packets carry is two pieces.
 */
import type { IncomingMessage } from 'node:http'

/** Pieces that a body may have whatever their length. */
const MAX_SMALL_CHUNKS = 256
/** Least mean length of the pieces of a body that has more. */
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
