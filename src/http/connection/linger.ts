/**
 * Bytes behind a client's last request are discarded. A close under unread bytes resets the connection, and the reset
 * may overtake the response, so the service half-closes and reads on for a moment: nginx calls it lingering_close.
 */
import type { Socket } from 'node:net'
import { freeMemory } from '../../lib/free-memory.ts'

const LINGER_MS = 1_000
/** Of one connection. */
const LINGER_BYTES = 1024 * 1024
/** While a response is due a connection is read only to notice that its client leaves: no further than this. */
const DUE_BYTES = 16 * 1024
/** Of all connections per second. A thousand that sent 900 KB each took 1.1 s of CPU, and delayed /healthz by 0.3 s. */
const ALL_LINGER_BYTES = 16 * 1024 * 1024
/** A smaller read counts as this many bytes. */
const MIN_READ_BYTES = 4_096

export interface Linger {
  /** The `data` listener of a socket whose input has ended. At a limit it stops reading; `close` raises the limit. */
  discarding(socket: Socket): (bytes: Buffer) => void
  /** Half-closes; destroys the socket when the client has closed or LINGER_MS have passed. */
  close(socket: Socket): void
}

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

  return {
    discarding(socket) {
      let discardedBytes = 0
      return (bytes) => {
        const { length } = bytes
        freeMemory(bytes)
        discardedBytes += length
        const maxBytes = socket.writableEnded ? LINGER_BYTES : DUE_BYTES
        // Destroying it would reset the connection under responses that the client has yet to read.
        if (isOver(length) || discardedBytes > maxBytes) socket.pause()
      }
    },
    close(socket) {
      socket.end()
      const timer = setTimeout(() => socket.destroy(), LINGER_MS)
      socket.once('close', () => clearTimeout(timer))
    },
  }
}
