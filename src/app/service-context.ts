/** What all parts of one service share: its configuration, log, clocks, ids and state. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { Config } from '../config/config.ts'
import type { AtFailpoint } from '../domain/failpoint.ts'
import { createUuidV7 } from '../domain/ids.ts'
import { BACKGROUND, type Line } from '../telemetry/log/log.ts'
import type { Logger } from '../telemetry/log/logger.ts'
import type { createMetrics } from '../telemetry/metrics/metrics.ts'
import { readVersion } from './version.ts'

/** What the process gives the service besides its configuration. */
export interface Edges {
  readonly logger: Logger
  /** Prints a note for people on stderr. */
  readonly printNotice: (text: string) => void
  readonly createMetrics: typeof createMetrics
  /** Of this process, sockets among them. */
  readonly maxOpenFiles: number
  readonly failpoint?: AtFailpoint | undefined
}

/** What changes in the life of a service. */
export interface ServiceState {
  /** null until the database was first reached. */
  instanceId: string | null
  isPrepared: boolean
}

export interface ServiceContext extends Edges {
  readonly config: Config
  readonly version: string
  /** This replica, for timelines. */
  readonly instance: string
  /** Writes a line that belongs to no request. */
  readonly logLine: (line: Line) => void
  readonly newId: () => string
  readonly now: () => Date
  /** Monotonic. */
  readonly nowMs: () => number
  /** On the clock of `nowMs`. */
  readonly startedAtMs: number
  /** Aborted when the service begins to stop. */
  readonly closing: AbortController
  readonly state: ServiceState
}

export function createContext(config: Config, edges: Edges): ServiceContext {
  return {
    ...edges,
    config,
    version: readVersion(),
    instance: `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`,
    logLine: (line) => edges.logger.write(line, BACKGROUND),
    newId: createUuidV7(Date.now),
    now: () => new Date(),
    nowMs: () => performance.now(),
    startedAtMs: performance.now(),
    closing: new AbortController(),
    state: { instanceId: null, isPrepared: false },
  }
}
