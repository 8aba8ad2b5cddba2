/**
 * The last state of a connection. A close under unread bytes resets the connection, and the reset may overtake the response:
 * nginx calls it lingering_close.
 */
import type { Socket } from 'node:net'
import { freeMemory } from '../../lib/free-memory.ts'

const LINGER_MS = 1_000
const LINGER_BYTES = 1024 * 1024
/** Of all connections per second. A thousand that sent 900 KB each took 1.1 s of CPU, and delayed /healthz by 0.3 s. */
const ALL_LINGER_BYTES = 16 * 1024 * 1024
/** A smaller read counts as so much. */
const MIN_READ_BYTES = 4_096

/** Half-closes a connection, and discards what the client sends until it closes or a limit is reached; then destroys it. */
export type Linger = (socket: Socket) => void

/** `nowMs` is monotonic. */
export function createLinger(nowMs: () => number): Linger {
  let second = 0
  let ofAllBytes = 0

  function isOver(sizeBytes: number): boolean {
    const now = Math.floor(nowMs() / 1_000)
    if (now !== second) ofAllBytes = 0
    second = now
    ofAllBytes += Math.max(sizeBytes, MIN_READ_BYTES)
    return ofAllBytes > ALL_LINGER_BYTES
  }

  return function linger(socket) {
    let discardedBytes = 0
    socket.on('data', (bytes: Buffer) => {
      const { length } = bytes
      freeMemory(bytes)
      discardedBytes += length
      if (isOver(length) || discardedBytes > LINGER_BYTES) socket.destroy()
    })
    socket.end()
    const timer = setTimeout(() => socket.destroy(), LINGER_MS)
    socket.once('close', () => clearTimeout(timer))
  }
}
