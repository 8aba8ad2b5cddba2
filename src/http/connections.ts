/** Connections as such: how many are open, how many may be, and which of them hold nothing but a descriptor. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'

/** Whatever the system allows: an idle one costs some 10 KiB. */
const MAX_CONNECTIONS = 16_384
/** However little the system allows. */
const MIN_CONNECTIONS = 64
/** stdio, listener, event loop, modules, and what a look at the system opens. */
const OTHER_FILES = 100

/** How many connections leave `otherFiles` (pools, pushes, downloads) their descriptors. */
export function connectionLimit(maxOpenFiles: number, otherFiles: number): number {
  const left = maxOpenFiles - otherFiles - OTHER_FILES
  return Math.max(MIN_CONNECTIONS, Math.min(MAX_CONNECTIONS, left))
}

/** A client that takes no byte of its answers for so long is cut off. */
const SLOW_READER_TIMEOUT_MS = 60_000
/** More than keepAliveTimeout, which is what clients are told, and which an empty line now and then puts off. */
const IDLE_TIMEOUT_MS = 80_000
/** No part of either: a timer that is early by a hair costs no further look. */
const LOOK_MS = 4_500

export interface Connections {
  readonly open: number
  /** Closed unread, since there were too many. */
  readonly refused: number
}

/** `atWork`: the sockets whose answer is our turn. */
export function boundConnections(
  server: Server,
  maxConnections: number,
  atWork: () => ReadonlySet<Socket>,
  nowMs: () => number,
): Connections {
  const open = new Set<Socket>()
  let refused = 0
  server.maxConnections = maxConnections
  server.on('drop', () => {
    refused += 1
  })
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  // Node would cut an idle one off at the very moment up to which it was promised, under a request that is on its way.
  server.on('timeout', () => {})
  const watch = new IdleWatch()
  const timer = setInterval(() => watch.look(open, atWork(), nowMs()), LOOK_MS).unref()
  server.once('close', () => clearInterval(timer))
  return {
    get open() {
      return open.size
    },
    get refused() {
      return refused
    },
  }
}

/** What of a socket is looked at. */
export type Watched = Pick<Socket, 'bytesWritten' | 'writableLength' | 'destroy'>

/**
 * Cuts off who takes no byte of what is ready for them, and who asks for nothing any more. Node's own time-out of a
 * socket is put off by whatever comes, be it no request.
 */
export class IdleWatch {
  #idle = new Map<Watched, { readonly takenBytes: number; readonly sinceMs: number }>()

  /** `nowMs` is monotonic. */
  look(open: Iterable<Watched>, atWork: ReadonlySet<Watched>, nowMs: number): void {
    const before = this.#idle
    this.#idle = new Map()
    for (const socket of open) {
      if (atWork.has(socket)) continue
      const takenBytes = taken(socket)
      const known = before.get(socket)
      const limitMs = socket.writableLength > 0 ? SLOW_READER_TIMEOUT_MS : IDLE_TIMEOUT_MS
      if (known?.takenBytes !== takenBytes) this.#idle.set(socket, { takenBytes, sinceMs: nowMs })
      else if (nowMs - known.sinceMs >= limitMs) socket.destroy()
      else this.#idle.set(socket, known)
    }
  }
}

/**
 * Another number whenever the system has taken a byte of what was written. `bytesWritten` counts a chunk from its first
 * byte on, `writableLength` to its last; how much of it is left only the handle tells, where net's own time-out looks as
 * well (lib/net.js, _onTimeout). By whole chunks (256 KiB of an APK) a phone at 4 KB/s would be taken for one that stands.
 */
function taken(socket: Watched): number {
  const { _handle: handle } = socket as { _handle?: { writeQueueSize?: number } | null } // no public type has it
  return socket.bytesWritten - socket.writableLength - (handle?.writeQueueSize ?? 0)
}
