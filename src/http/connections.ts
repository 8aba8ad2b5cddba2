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

/** A client that takes no byte of an answer for so long is cut off. */
const SLOW_READER_TIMEOUT_MS = 60_000

export interface Connections {
  readonly open: number
  /** Closed unread, since there were too many. */
  readonly refused: number
}

/** `isAtWork`: a request of this connection is still without an answer, and nothing but that moves it. */
export function boundConnections(
  server: Server,
  maxConnections: number,
  isAtWork: (socket: Socket) => boolean,
): Connections {
  const connections = { open: 0, refused: 0 }
  server.maxConnections = maxConnections
  server.on('drop', () => {
    connections.refused += 1
  })
  server.on('connection', (socket) => {
    connections.open += 1
    socket.once('close', () => {
      connections.open -= 1
    })
  })
  // Also for one that is idle, after keepAliveTimeout: with this listener Node closes neither.
  server.timeout = SLOW_READER_TIMEOUT_MS
  server.on('timeout', (socket: Socket) => {
    if (!isAtWork(socket)) socket.destroy()
  })
  return connections
}
