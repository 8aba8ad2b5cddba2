/** How bytes reach a file descriptor without ever blocking the event loop: one chunk at a time. */
import { constants, fstatSync, openSync, write } from 'node:fs'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { isatty, WriteStream } from 'node:tty'

const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants

/**
 * Called once per chunk, never before `write` returned. `goneBytes` have left, fewer than the chunk
 * after a short write; `error` says why not all, null after a mere short write.
 */
export type Wrote = (error: NodeJS.ErrnoException | null, goneBytes: number) => void

export interface ChunkWriter {
  /** The next call only after `wrote`. The chunk's memory belongs to the writer until then. */
  write(chunk: Buffer, wrote: Wrote): void
  /** Bytes of the chunk in flight that have left by now, as far as can be known. */
  goneBytes(): number
}

/**
 * The writer that fits `fd`. Regular files and devices: asynchronous fs.write. Pipes and sockets: a
 * stream, because fs.write on a full pipe parks a libuv thread and process.exit() then hangs for ever.
 * Terminals: fs.write on a non-blocking descriptor of our own, because Node writes to them
 * synchronously, and Ctrl-S would stop the event loop. Where the terminal cannot be opened anew
 * (another user's after su, no /proc) it is Node's stream, and Ctrl-S does stop the service.
 * `onLost` is called when a stream's reader leaves, also between writes. Never throws.
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
    /** A thread of libuv has it: unknown. */
    goneBytes: () => 0,
  }
}

/** O_NONBLOCK belongs to an opening: one of our own changes nothing for the shell on the same terminal. */
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
    // Of a datagram socket Node makes a stream that loses everything and reports success.
    throw new Error('stdout is no stream')
  }
  if (isatty(fd)) return new WriteStream(fd)
  return new Socket({ fd, readable: false, writable: true })
}

function streamWriter(stream: Writable, onLost: () => void): ChunkWriter {
  let inFlightBytes = 0
  // The listener stays for ever: an EPIPE without one would end the process.
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
 * Bytes that libuv holds and the kernel has not taken. Node has no public name for it, so the shape is
 * checked; where it is missing the whole chunk counts as not gone.
 */
function queuedBytes(stream: Writable, inFlightBytes: number): number {
  const handle: unknown = '_handle' in stream ? stream._handle : null
  if (typeof handle !== 'object' || handle === null) return inFlightBytes
  const size: unknown = 'writeQueueSize' in handle ? handle.writeQueueSize : null
  return typeof size === 'number' ? size : inFlightBytes
}

/** A closed descriptor: the first write tells. */
function brokenWriter(thrown: unknown): ChunkWriter {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  return {
    write(_chunk, wrote) {
      setImmediate(wrote, error, 0)
    },
    goneBytes: () => 0,
  }
}
