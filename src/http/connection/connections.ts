/** Connections as such: how many are open, how many may be, and which of them hold nothing but a descriptor. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { LinkedList } from '../../lib/linked-list.ts'
import { Connection, type ConnectionOptions } from './connection.ts'
import { ConnectionLimit, type ConnectionLimitOptions } from './limit.ts'

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

/** Connections that may pipeline more than a dozen requests; others that do are closed behind those that they have open. */
const MAX_METERED = 16

/** A client that takes no byte of its answers for so long is cut off. */
const SLOW_READER_TIMEOUT_MS = 60_000
/** More than keepAliveTimeout, which is what clients are told, and which an empty line now and then puts off. */
const IDLE_TIMEOUT_MS = 80_000
/** So often each is looked at, never sooner: a whole part of both. */
const CHECK_INTERVAL_MS = 2_500
/** So often those are looked at whose turn it is. A look at 6,000 at once held up every request for 9 ms. */
const TICK_MS = 100

export interface ConnectionsOptions
  extends ConnectionLimitOptions,
    Pick<ConnectionOptions, 'isPipelineFull'> {
  /** Monotonic. */
  readonly nowMs: () => number
}

export type Connections = Pick<ConnectionLimit, 'open' | 'refused' | 'evicted'>

/** Makes a Connection of each socket that the server accepts, within the limits of their number and idle time. */
export function boundConnections(server: Server, options: ConnectionsOptions): Connections {
  const { nowMs } = options
  const limit = new ConnectionLimit(options)
  const watch = new IdleWatch()
  let metered = 0
  const connectionOptions: ConnectionOptions = {
    isPipelineFull: options.isPipelineFull,
    tryAcquireMeter() {
      if (metered >= MAX_METERED) return false
      metered += 1
      return true
    },
    releaseMeter() {
      metered -= 1
    },
    onRefused: () => limit.countRefused(),
  }
  server.on('connection', (socket) => {
    const connection = new Connection(socket, connectionOptions)
    const admission = limit.add(connection)
    if (admission === undefined) return
    connection.onIdle = () => limit.used(admission)
    const leave = watch.add(socket, nowMs(), () => connection.isResponsePending)
    socket.on('close', () => {
      limit.remove(admission)
      leave()
    })
  })
  // Node would cut an idle one off at the very moment up to which it was promised, under a request that is on its way.
  server.on('timeout', () => {})
  const timer = setInterval(() => watch.check(nowMs()), TICK_MS).unref()
  server.once('close', () => clearInterval(timer))
  return limit
}

/** What of a socket is looked at. */
export type Watched = Pick<
  Socket,
  'bytesWritten' | 'writableLength' | 'destroy' | 'resetAndDestroy'
>

interface WatchedSocket {
  readonly socket: Watched
  readonly isResponsePending: () => boolean
  checkedAtMs: number
  /** At that look. */
  takenBytes: number
  /** The look since which it is so many. */
  movedAtMs: number
}

/**
 * Cuts off who takes no byte of what is ready for them, and who asks for nothing any more. Node's own time-out of a
 * socket is put off by whatever comes, be it no request. All times are of one monotonic clock.
 */
export class IdleWatch {
  /** Who was not looked at for longest stands first. */
  readonly #seen = new LinkedList<WatchedSocket>()

  /** Of those that were added and have not left. */
  get size(): number {
    return this.#seen.size
  }

  /** `isResponsePending`: the client waits for us, not we for it. Returns what lets it leave. */
  add(socket: Watched, nowMs: number, isResponsePending: () => boolean): () => void {
    const takenBytes = acknowledgedBytes(socket)
    const seen = { socket, isResponsePending, checkedAtMs: nowMs, takenBytes, movedAtMs: nowMs }
    const place = this.#seen.add(seen)
    return () => this.#seen.remove(place)
  }

  /** At each that was not looked at for CHECK_INTERVAL_MS. */
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
 * Closes a connection whose client does not take what it was sent. A mere close would leave up to 4 MB of that in the
 * kernel for minutes. resetAndDestroy alone waits until all is sent.
 */
export function reset(socket: Pick<Socket, 'destroy' | 'resetAndDestroy'>): void {
  socket.resetAndDestroy()
  socket.destroy()
}

/**
 * Another number whenever the system has taken a byte of what was written. `bytesWritten` counts a chunk from its first
 * byte on, `writableLength` to its last; how much of it is left only the handle tells, where net's own time-out looks as
 * well (lib/net.js, _onTimeout). By whole chunks (256 KiB of an APK) a phone at 4 KB/s would be taken for one that stands.
 */
function acknowledgedBytes(socket: Watched): number {
  return accepted(socket) - socket.writableLength
}

/** How many bytes the system has taken, where only one chunk is written at a time: those behind it count as taken. */
export function accepted(socket: Pick<Socket, 'bytesWritten'>): number {
  const { _handle: handle } = socket as { _handle?: { writeQueueSize?: number } | null } // no public type has it
  return socket.bytesWritten - (handle?.writeQueueSize ?? 0)
}
