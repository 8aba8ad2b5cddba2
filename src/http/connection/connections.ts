/** Limits the connections of a server and closes idle ones. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { LinkedList } from '../../lib/linked-list.ts'
import { createSemaphore } from '../../lib/semaphore.ts'
import { Connection, type ConnectionOptions } from './connection.ts'
import { ConnectionLimit, type ConnectionLimitOptions } from './limit.ts'
import { createLinger } from './linger.ts'
import type { HttpSocket } from './node-parser.ts'
import { PacedCloses } from './paced-closes.ts'
import { refusedInput } from './raw-response.ts'

/** Upper limit, whatever the system allows: an idle connection costs some 10 KiB. */
const MAX_CONNECTIONS = 16_384
/** Lower limit, however little the system allows. */
const MIN_CONNECTIONS = 64
/** Descriptors of stdio, listener, event loop, modules, and files that are open for a moment. */
const OTHER_FILES = 100

/** The most connections that leave descriptors for `otherFiles` (pools, pushes, downloads). */
export function connectionLimit(maxOpenFiles: number, otherFiles: number): number {
  const left = maxOpenFiles - otherFiles - OTHER_FILES
  return Math.max(MIN_CONNECTIONS, Math.min(MAX_CONNECTIONS, left))
}

/** Metered connections, of up to 128 KiB each: 4 MiB together. With 64 of them, three floods of seven took more than 32 MiB on Node 24. */
const MAX_METERED = 32

/** A client that reads no byte of its responses for this long is cut off. */
const SLOW_READER_TIMEOUT_MS = 60_000
/** More than keepAliveTimeout, which is announced to clients. */
const IDLE_TIMEOUT_MS = 80_000
/** Check interval of a connection; divides both timeouts. */
const CHECK_INTERVAL_MS = 2_500
/** Interval between checks of those that are due. Checking 6,000 at once delayed every request by 9 ms. */
const TICK_MS = 100

export interface ConnectionsOptions extends ConnectionLimitOptions {
  /** Monotonic. */
  readonly nowMs: () => number
}

export type Connections = Pick<ConnectionLimit, 'open' | 'refused' | 'evicted'>

/** Makes a Connection of each socket that the server accepts, within the limits of their number and idle time. */
export function boundConnections(server: Server, options: ConnectionsOptions): Connections {
  const { nowMs } = options
  const limit = new ConnectionLimit(options)
  const watch = new IdleWatch()
  const connectionOptions: ConnectionOptions = {
    pipelined: { count: 0 },
    tryAcquireMeter: createSemaphore(MAX_METERED).tryAcquire,
    linger: createLinger(nowMs),
    closes: new PacedCloses(nowMs),
    onRefused: () => limit.countRefused(),
    onRefusedInput: (code, socket) => void server.emit('clientError', refusedInput(code), socket),
  }
  server.on('connection', (socket) => {
    const connection = new Connection(socket, connectionOptions)
    // What had arrived when this turn polled is read first: a connection whose request was among it must not give way.
    setImmediate(() => {
      if (socket.destroyed) return
      const admission = limit.add(connection)
      if (admission === undefined) return
      connection.onIdle = () => limit.used(admission)
      const leave = watch.add(socket, nowMs(), () => connection.isResponsePending)
      socket.on('close', () => {
        limit.remove(admission)
        leave()
      })
    })
  })
  server.closeIdleConnections = sparingUnsent(server.closeIdleConnections.bind(server), limit)
  // Otherwise Node closes an idle connection exactly when its announced time ends, under a request on its way.
  server.on('timeout', () => {})
  const timer = setInterval(() => watch.check(nowMs()), TICK_MS).unref()
  server.once('close', () => clearInterval(timer))
  return limit
}

/**
 * Node calls a connection idle as soon as `end()` of its response is called, and closes it. The client may not have read the
 * response yet: up to a whole list, or the last 256 KiB of an APK.
 */
function sparingUnsent(closeIdle: () => void, limit: ConnectionLimit): () => void {
  return () => {
    const unsent = limit.sockets.filter(({ writableLength }) => writableLength > 0)
    for (const socket of unsent) socket.destroy = () => socket
    closeIdle()
    for (const socket of unsent) Reflect.deleteProperty(socket, 'destroy')
  }
}

/** What IdleWatch uses of a socket. */
export type Watched = Pick<
  Socket,
  'bytesWritten' | 'writableLength' | 'destroy' | 'resetAndDestroy'
>

interface WatchedSocket {
  readonly socket: Watched
  readonly isResponsePending: () => boolean
  checkedAtMs: number
  /** At the last check. */
  takenBytes: number
  /** The check since which `takenBytes` has not changed. */
  movedAtMs: number
}

/**
 * Closes connections whose client reads nothing of a pending response, and idle ones. Any input would defer Node's own
 * socket timeout, even an empty line. All times are of one monotonic clock.
 */
export class IdleWatch {
  /** Least recently checked first. */
  readonly #seen = new LinkedList<WatchedSocket>()

  /** Sockets that were added and have not left. */
  get size(): number {
    return this.#seen.size
  }

  /** `isResponsePending`: the client waits for the service. Returns a function that removes the socket. */
  add(socket: Watched, nowMs: number, isResponsePending: () => boolean): () => void {
    const takenBytes = acknowledgedBytes(socket)
    const seen = { socket, isResponsePending, checkedAtMs: nowMs, takenBytes, movedAtMs: nowMs }
    const node = this.#seen.add(seen)
    return () => this.#seen.remove(node)
  }

  /** Checks each socket whose last check is CHECK_INTERVAL_MS ago. */
  check(nowMs: number): void {
    for (;;) {
      const seen = this.#seen.first
      if (seen === undefined || nowMs - seen.checkedAtMs < CHECK_INTERVAL_MS) return
      this.#seen.rotate()
      seen.checkedAtMs = nowMs
      const { socket, takenBytes, movedAtMs: sinceMs } = seen
      const limitMs = socket.writableLength > 0 ? SLOW_READER_TIMEOUT_MS : IDLE_TIMEOUT_MS
      seen.takenBytes = acknowledgedBytes(socket)
      const hasMoved = seen.takenBytes !== takenBytes
      if (!hasMoved && nowMs - sinceMs < limitMs) continue
      seen.movedAtMs = nowMs
      if (hasMoved) continue
      if (seen.isResponsePending()) continue
      if (socket.writableLength > 0) reset(socket)
      else socket.destroy()
    }
  }
}

/**
 * Closes a connection whose client does not read. A plain close would leave up to 4 MB in the kernel for minutes, and
 * resetAndDestroy alone waits until everything is sent.
 */
export function reset(socket: Pick<Socket, 'destroy' | 'resetAndDestroy'>): void {
  socket.resetAndDestroy()
  socket.destroy()
}

/**
 * Changes whenever the system has taken a byte. `bytesWritten` counts a chunk from its first byte on, `writableLength` until
 * its last; only the handle knows how much of it is left, and net's own timeout reads it as well (lib/net.js, _onTimeout).
 * Counting whole chunks (256 KiB of an APK) would cut off a phone that reads 4 KB/s.
 */
function acknowledgedBytes(socket: Watched): number {
  return accepted(socket) - socket.writableLength
}

/** Bytes that the system has taken, if only one chunk is written at a time. */
export function accepted(socket: Pick<Socket, 'bytesWritten'>): number {
  const { _handle: handle } = socket as Pick<HttpSocket, '_handle'>
  return socket.bytesWritten - (handle?.writeQueueSize ?? 0)
}
