/**
 * Writes the ring buffer to a file descriptor, one chunk (at most 64 KiB) at a time, and reports dropped lines.
 *
 * States of LogSink:
 *   idle       nothing stored, nothing in flight; wake() -> scheduled
 *   scheduled  a setImmediate will write
 *   writing    one chunk in flight; once written: a full batch is stored -> writing, otherwise -> gathering
 *   gathering  a timer will write, so that the lines of GATHER_MS share one system call; a full batch is stored ->
 *              scheduled; nothing was stored -> idle
 *   waiting    the last write failed with a temporary error (disk full, EAGAIN); a timer -> writing
 *   dead       final: the reader left, the descriptor is closed, or close() has ended. The ring is closed: all stored
 *              and later lines count as dropped
 * close() may be called in any state. It writes until the ring is empty, the deadline passes or a write fails (except
 * EAGAIN), then the sink is dead. Nothing here throws. Only close()'s deadline and a write in flight keep the process alive.
 */
import type { Writable } from 'node:stream'
import { type ChunkWriter, openChunkWriter } from './chunk-writer.ts'
import { CHUNK_BYTES, type Drops, type RingBuffer } from './ring-buffer.ts'

/** Errors after which the descriptor may work again; all others are final. */
const PASSING = new Set(['EAGAIN', 'ENOSPC', 'EDQUOT', 'EIO'])
const EAGAIN_RETRY_MS = 20
const RETRY_MS = 1000
/** One write for each turn of the event loop took a twentieth of the service's CPU (docs/develop/measurements.md, F3). */
const GATHER_MS = 10

export interface LogSinkOptions {
  readonly ring: RingBuffer
  readonly fd: number
  /** The stream on `fd` for a pipe, socket or terminal; undefined: process.stdout for 1, otherwise a new one. */
  readonly stdout?: (() => Writable) | undefined
  /** Drafts the line that reports dropped lines; returns its size in bytes, newline included. */
  readonly dropReport: (drops: Drops) => number
}

export function createLogSink(options: LogSinkOptions): LogSink {
  return new LogSink(options.ring, options.dropReport, (onLost) =>
    openChunkWriter(options.fd, options.stdout, onLost),
  )
}

export class LogSink {
  readonly #ring: RingBuffer
  readonly #dropReport: LogSinkOptions['dropReport']
  readonly #writer: ChunkWriter
  readonly #retryMs: number
  /** A full batch: so many stored bytes are written at once. */
  readonly #batchBytes: number
  #state: 'idle' | 'gathering' | 'scheduled' | 'writing' | 'waiting' | 'dead' = 'idle'
  /** Set while gathering or waiting. */
  #timer: NodeJS.Timeout | undefined
  #closed: Promise<void> | undefined
  #settle = (): void => {}

  constructor(
    ring: RingBuffer,
    dropReport: LogSinkOptions['dropReport'],
    openWriter: (onLost: () => void) => ChunkWriter,
    retryMs = RETRY_MS,
  ) {
    this.#ring = ring
    this.#batchBytes = Math.min(CHUNK_BYTES, ring.capacityBytes / 4)
    this.#dropReport = dropReport
    this.#retryMs = retryMs
    this.#writer = openWriter(() => this.#die())
  }

  /** Call after every append, stored or dropped. Costs one comparison while lines are being written. */
  wake(): void {
    if (this.#state === 'idle') this.#schedule()
    if (this.#state === 'gathering' && this.#ring.fillBytes >= this.#batchBytes) this.#schedule()
  }

  /** Resolves once the ring is empty or after `deadlineMs`; never rejects. A second call joins the first. */
  close(deadlineMs: number): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      const deadline = setTimeout(() => {
        if (this.#state === 'writing') this.#ring.release(this.#writer.goneBytes())
        this.#die()
      }, deadlineMs)
      this.#settle = () => {
        clearTimeout(deadline)
        resolve()
      }
      if (this.#state === 'dead') this.#settle()
      else if (this.#state !== 'writing' && this.#state !== 'scheduled') this.#schedule()
    })
    return this.#closed
  }

  readonly #pump = (): void => {
    clearTimeout(this.#timer)
    if (this.#state === 'dead') return
    this.#ring.reportDrops(this.#dropReport)
    if (this.#ring.fillBytes > 0) {
      this.#state = 'writing'
      this.#writer.write(this.#ring.oldest(), this.#wrote)
      return
    }
    this.#state = 'idle'
    if (this.#closed !== undefined) this.#die()
  }

  readonly #wrote = (error: NodeJS.ErrnoException | null, goneBytes: number): void => {
    if (this.#state === 'dead') return
    this.#ring.release(error === null ? goneBytes : 0)
    if (error === null && goneBytes > 0) {
      if (this.#ring.fillBytes >= this.#batchBytes || this.#closed !== undefined) this.#pump()
      else this.#gather()
      return
    }
    const code = error === null ? 'EAGAIN' : (error.code ?? '')
    if (!PASSING.has(code) || (this.#closed !== undefined && code !== 'EAGAIN')) {
      this.#die()
      return
    }
    this.#state = 'waiting'
    const delayMs = code === 'EAGAIN' ? Math.min(EAGAIN_RETRY_MS, this.#retryMs) : this.#retryMs
    this.#timer = setTimeout(this.#pump, delayMs).unref()
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    this.#state = 'scheduled'
    setImmediate(this.#pump)
  }

  #gather(): void {
    this.#state = 'gathering'
    this.#timer = setTimeout(this.#pump, GATHER_MS)
  }

  #die(): void {
    this.#state = 'dead'
    clearTimeout(this.#timer)
    this.#ring.close()
    this.#settle()
  }
}
