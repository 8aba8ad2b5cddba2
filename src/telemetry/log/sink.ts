/**
 * Moves the ring's bytes to a file descriptor, one chunk (at most 64 KiB) in flight, and reports gaps.
 *
 * States of LogSink:
 *   idle       nothing stored, nothing in flight; wake() -> scheduled
 *   scheduled  a setImmediate will write
 *   writing    one chunk in flight; gone, and much stored -> writing the next; else -> gathering
 *   gathering  a timer will write, so that the lines of GATHER_MS share one system call; much stored ->
 *              scheduled; nothing came -> idle
 *   waiting    the last write failed for a while (disk full, EAGAIN); a timer -> writing
 *   dead       final: reader gone, descriptor closed, or close() is through. The ring is closed,
 *              every line still stored or yet to come counts as dropped
 * close() may start in any state: it goes on writing until the ring is empty, the deadline passes or a
 * write fails (EAGAIN excepted), and ends dead. Nothing here throws, and only the time until the
 * deadline and a write in flight keep the process alive.
 */
import type { Writable } from 'node:stream'
import { type ChunkWriter, openChunkWriter } from './chunk-writer.ts'
import { CHUNK_BYTES, type Drops, type RingBuffer } from './ring-buffer.ts'

/** Failures of a descriptor that may work again; all others are final. */
const PASSING = new Set(['EAGAIN', 'ENOSPC', 'EDQUOT', 'EIO'])
const EAGAIN_RETRY_MS = 20
const RETRY_MS = 1000
/** A write for each turn of the event loop was a twentieth of the service's CPU (docs/develop/measurements.md, F3). */
const GATHER_MS = 10

export interface LogSinkOptions {
  readonly ring: RingBuffer
  readonly fd: number
  /** The stream on `fd` if that is a pipe, socket or terminal; undefined: process.stdout for 1, else a new one. */
  readonly stdout?: (() => Writable) | undefined
  /** Drafts the line, newline included, that reports a gap; answers its bytes. */
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
  /** Stored bytes that are not gathered any longer. */
  readonly #muchBytes: number
  #state: 'idle' | 'gathering' | 'scheduled' | 'writing' | 'waiting' | 'dead' = 'idle'
  /** Of gathering and waiting. */
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
    this.#muchBytes = Math.min(CHUNK_BYTES, ring.capacityBytes / 4)
    this.#dropReport = dropReport
    this.#retryMs = retryMs
    this.#writer = openWriter(() => this.#die())
  }

  /** To be called after every append, stored or dropped. Costs a comparison while lines are moving. */
  wake(): void {
    if (this.#state === 'idle') this.#schedule()
    if (this.#state === 'gathering' && this.#ring.fillBytes >= this.#muchBytes) this.#schedule()
  }

  /** Settles, never rejects, once nothing is stored any more or `deadlineMs` have passed; a second call joins the first. */
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
      if (this.#ring.fillBytes >= this.#muchBytes || this.#closed !== undefined) this.#pump()
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
