/** Writes to a file descriptor without ever blocking the event loop, one chunk at a time. */
import { constants, fstatSync, openSync, write } from 'node:fs'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { isatty, WriteStream } from 'node:tty'

const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants

/**
 * Called once per chunk, never before `write` has returned. `goneBytes` were written; `error` is why the rest was not,
 * null after a short write.
 */
export type Wrote = (error: NodeJS.ErrnoException | null, goneBytes: number) => void

export interface ChunkWriter {
  /** Call again only after `wrote`. Until then the writer owns the chunk's memory. */
  write(chunk: Buffer, wrote: Wrote): void
  /** Bytes of the chunk in flight that are known to be written. */
  goneBytes(): number
}

/**
 * Chooses the writer by the kind of `fd`:
 * - Regular files and devices: asynchronous fs.write.
 * - Pipes and sockets: a stream. fs.write on a full pipe would park a libuv thread, and process.exit() would then hang.
 * - Terminals: fs.write on a non-blocking descriptor of our own. Node writes to terminals synchronously, so Ctrl-S would
 *   stop the event loop. If the terminal cannot be opened again (another user's after su, no /proc), Node's stream is
 *   used, and Ctrl-S does stop the service.
 * `onLost` is called when a stream's reader leaves, even between writes. Never throws.
 */
export function openChunkWriter(
  fd: number,
  stream: (() => Writable) | undefined,
  onLost: () => void,
): ChunkWriter {
  try {
    const stats = fstatSync(fd)
    const isTerminal = isatty(fd)
    if (!stats.isFIFO() && !stats.isSocket() && !isTerminal) return fileWriter(fd)
    const ownFd = isTerminal ? openTerminal(fd) : undefined
    if (ownFd !== undefined) return fileWriter(ownFd)
    return streamWriter(stream?.() ?? openStream(fd), onLost)
  } catch (thrown) {
    return brokenWriter(thrown)
  }
}

function fileWriter(fd: number): ChunkWriter {
  return {
    write(chunk, wrote) {
      write(fd, chunk, 0, chunk.length, null, wrote)
    },
    /** Unknown: a libuv thread is writing. */
    goneBytes: () => 0,
  }
}

/** O_NONBLOCK applies to one open file description, so this does not affect the shell on the same terminal. */
function openTerminal(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY)
  } catch {
    return undefined
  }
}

/** process.stdout for fd 1: a second handle on the same descriptor would fight over it. */
function openStream(fd: number): Writable {
  if (fd === 1) {
    if (process.stdout instanceof Socket) return process.stdout
    // For a datagram socket, Node's stream loses all data and reports success.
    throw new Error('stdout is no stream')
  }
  if (isatty(fd)) return new WriteStream(fd)
  return new Socket({ fd, readable: false, writable: true })
}

function streamWriter(stream: Writable, onLost: () => void): ChunkWriter {
  let inFlightBytes = 0
  // Never removed: an EPIPE without a listener would end the process.
  stream.on('error', onLost)
  stream.on('close', onLost)
  return {
    write(chunk, wrote) {
      inFlightBytes = chunk.length
      stream.write(chunk, (error) => {
        inFlightBytes = 0
        wrote(error ?? null, error ? 0 : chunk.length)
      })
    },
    goneBytes: () => Math.max(0, inFlightBytes - queuedBytes(stream, inFlightBytes)),
  }
}

/**
 * Bytes that libuv has not yet passed to the kernel. Node has no public API for this, so the shape is checked; without it
 * the whole chunk counts as unwritten.
 */
function queuedBytes(stream: Writable, inFlightBytes: number): number {
  const handle: unknown = '_handle' in stream ? stream._handle : null
  if (typeof handle !== 'object' || handle === null) return inFlightBytes
  const size: unknown = 'writeQueueSize' in handle ? handle.writeQueueSize : null
  return typeof size === 'number' ? size : inFlightBytes
}

/** For a closed descriptor: the first write reports the error. */
function brokenWriter(thrown: unknown): ChunkWriter {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  return {
    write(_chunk, wrote) {
      setImmediate(wrote, error, 0)
    },
    goneBytes: () => 0,
  }
}
