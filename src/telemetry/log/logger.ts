/** The log of the process: a line is built, appended to a bounded ring, and leaves on its own. */
import type { Writable } from 'node:stream'
import { type Level, type LevelCounts, RANK } from './levels.ts'
import { createLineBuilder, levelOf, MAX_LINE_BYTES } from './line.ts'
import { LineLimit } from './line-limit.ts'
import { BACKGROUND, type RequestLog } from './log.ts'
import { createReadableBuilder } from './readable-line.ts'
import { RingBuffer } from './ring-buffer.ts'
import { createLogSink } from './sink.ts'

export interface LoggerOptions {
  /** Lines below it are not built; OFF writes nothing at all. */
  readonly level: Level | 'OFF'
  /** All memory that unwritten lines may take, plus a sixteenth for their lengths and one line. */
  readonly bufferBytes: number
  /** 1, except in tests. */
  readonly fd: number
  /** The stream on `fd`, asked for only if that is a pipe, socket or terminal; by default process.stdout for 1. */
  readonly stdout?: () => Writable
  /** Lines for a person at a terminal instead of JSON. */
  readonly readable?: { readonly isColored: boolean } | undefined
  /** Epoch milliseconds; by default Date.now. */
  readonly now?: () => number
  /** Monotonic; by default performance.now. */
  readonly nowMs?: () => number
}

/** Lines that report drops (`log.dropped`) appear in none of the counts: written + dropped + stored = asked for. */
export interface LoggerStats {
  readonly linesWritten: number
  readonly linesDropped: LevelCounts
  readonly fillBytes: number
  readonly capacityBytes: number
}

/** `written` is what the descriptor has taken; `dropped` is every other line that was asked for. */
export interface LoggerTotals {
  readonly written: number
  readonly dropped: number
}

export interface Logger extends RequestLog {
  /** Writes at once what writeLimited holds back. */
  flush(): void
  /**
   * Writes what is held back or stored, for at most `deadlineMs`, then stops for good: later lines count as dropped.
   * Never rejects. The caller exits; a stalled pipe does not hold process.exit() up.
   */
  close(deadlineMs: number): Promise<LoggerTotals>
  stats(): LoggerStats
}

export function createLogger(options: LoggerOptions): Logger {
  const ring = new RingBuffer(options.bufferBytes, MAX_LINE_BYTES)
  const { readable, now = Date.now } = options
  const build =
    readable === undefined
      ? createLineBuilder(ring.draft, now)
      : createReadableBuilder(ring.draft, now, readable.isColored)
  const sink = createLogSink({
    ring,
    fd: options.fd,
    stdout: options.stdout,
    dropReport: ({ dropped, byLevel, anonymous, suppressed }) =>
      build(
        { event: 'log.dropped', fields: { dropped, by_level: byLevel, anonymous } },
        'WARN',
        BACKGROUND,
        undefined,
        { isAnonymous: false, suppressed },
      ),
  })
  const limit = new LineLimit(options.nowMs ?? performance.now.bind(performance), (write, ms) =>
    setTimeout(write, ms).unref(),
  )
  const lowestRank = options.level === 'OFF' ? Number.POSITIVE_INFINITY : RANK[options.level]

  return {
    write(line, context, ending, cause) {
      const level = levelOf(line)
      const rank = RANK[level]
      if (rank < lowestRank) return
      if (ring.isClosed) {
        ring.refuse(rank, cause)
        return
      }
      try {
        ring.append(build(line, level, context, ending, cause), rank, cause)
      } catch {
        // Only a getter of the caller's can throw here; its line is lost, its request is not.
        ring.refuse(rank, cause)
      }
      sink.wake()
    },

    writeLimited: (kind, mostPerS, write) => limit.write(kind, mostPerS, write),
    flush: () => limit.flush(),

    async close(deadlineMs) {
      limit.flush()
      await sink.close(deadlineMs)
      const { DEBUG, INFO, WARN, ERROR } = ring.linesDropped
      return { written: ring.linesWritten, dropped: DEBUG + INFO + WARN + ERROR }
    },

    stats: () => ({
      linesWritten: ring.linesWritten,
      linesDropped: ring.linesDropped,
      fillBytes: ring.fillBytes,
      capacityBytes: ring.capacityBytes,
    }),
  }
}
