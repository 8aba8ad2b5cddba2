/** The log of the process: builds a line and appends it to a bounded ring buffer, from which the sink writes. */
import type { Writable } from 'node:stream'
import { type Level, type LevelCounts, RANK } from './levels.ts'
import { createLineBuilder, levelOf, MAX_LINE_BYTES } from './line.ts'
import { LineLimit } from './line-limit.ts'
import { BACKGROUND, type RequestLog } from './log.ts'
import { createReadableBuilder } from './readable-line.ts'
import { RingBuffer } from './ring-buffer.ts'
import { createLogSink } from './sink.ts'

export interface LoggerOptions {
  /** Lines below this level are not built; OFF writes nothing. */
  readonly level: Level | 'OFF'
  /** Memory for unwritten lines; a sixteenth of it and one line come on top. */
  readonly bufferBytes: number
  /** 1, except in tests. */
  readonly fd: number
  /** The stream on `fd`, used only for a pipe, socket or terminal; default: process.stdout for 1. */
  readonly stdout?: () => Writable
  /** Writes lines for people at a terminal instead of JSON. */
  readonly readable?: { readonly isColored: boolean } | undefined
  /** Epoch milliseconds; default: Date.now. */
  readonly now?: () => number
  /** Monotonic milliseconds; default: performance.now. */
  readonly nowMs?: () => number
}

/** Lines that report drops (`log.dropped`) are not counted: written + dropped + stored = requested. */
export interface LoggerStats {
  readonly linesWritten: number
  readonly linesDropped: LevelCounts
  readonly fillBytes: number
}

/** `written` lines reached the descriptor; `dropped` is every other line requested. */
export interface LoggerTotals {
  readonly written: number
  readonly dropped: number
}

export interface Logger extends RequestLog {
  /** Writes at once the lines that writeLimited delays. */
  flush(): void
  /**
   * Writes all delayed and stored lines for at most `deadlineMs`, then stops for good: later lines count as dropped. Never
   * rejects. A stalled pipe does not delay process.exit().
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
        // A getter of the caller threw. The line is lost, the request is not.
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
    }),
  }
}
