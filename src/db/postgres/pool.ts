/**
 * The way to PostgreSQL: a bounded pool that never hangs, never crashes the process and never hands
 * out a poisoned connection. Its time-outs answer measured traps of `pg`.
 */
import type pg from 'pg'
import { AppError } from '../../domain/errors.ts'
import type { AtFailpoint } from '../../domain/failpoint.ts'
import { waitAtMost } from '../../lib/timeouts.ts'
import { CONNECT, hasChanged, LOST, mayWrite, type Outcome } from '../health/outcome.ts'
import { overloaded, unavailable, withStatement } from './call-failure.ts'
import { clientOptionsOf } from './client-options.ts'
import { connect } from './connect.ts'
import { Connections } from './connections.ts'
import { type ServerConfig, serversOf } from './database-url.ts'
import { Dialer, type DialRequest } from './dialer.ts'
import { RewoundError, type ServerClient } from './server-client.ts'
import type { VerifySession } from './session-check.ts'
import {
  isAway,
  isGivenUp,
  isUnavailable,
  leavesSessionSound,
  OwnWaitError,
  sqlstate,
  UnreplicatedError,
} from './sqlstate.ts'

/** One statement. `name` makes it a prepared statement (unless DATABASE_PREPARED=false) and labels its errors. */
export interface Query {
  readonly name: string
  readonly text: string
  readonly values?: readonly unknown[]
  /** Whenever it succeeds it has written, though it is a `select`. */
  readonly isWrite?: true
  /** Finding nothing proves a credential bad, so it is refused where something was lost, as writes are. */
  readonly provesUnknown?: true
}

export interface Result<Row> {
  readonly rows: readonly Row[]
  readonly rowCount: number
}

export interface Queryable {
  /** Throws AppError `db_unavailable` or `overloaded` where the database is away, slow or full; else pg's own error. */
  query<Row extends object>(query: Query): Promise<Result<Row>>
}

export interface Database extends Queryable {
  /** Runs `work` in one transaction; rolls back when it throws; resolves only after a real COMMIT. */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>
}

export interface PoolOptions {
  readonly url: string
  /** Default: one of its own. Pools of one process share theirs. */
  readonly dialer?: Dialer
  readonly maxConnections: number
  readonly isPrepared: boolean
  /** Statements longer than this are given up, on both sides of the connection. Default QUERY_TIMEOUT_MS. */
  readonly queryTimeoutMs?: number
  /** Longest wait for a connection. Default CONNECT_TIMEOUT_MS. */
  readonly connectTimeoutMs?: number
  /** Longest wait for a row or a table. Default LOCK_TIMEOUT_MS. */
  readonly lockTimeoutMs?: number
  /** Server settings of each connection, such as plan_cache_mode, besides those that all have. */
  readonly serverSettings?: Readonly<Record<string, string>>
  /** Asks each new connection whether it can be relied on. */
  readonly verifySession?: VerifySession
  readonly failpoint?: AtFailpoint | undefined
  /** Told of every success, and of every failure for want of a database. */
  readonly onOutcome?: (outcome: Outcome) => void
}

/** Longest wait for a connection. Together with a query it stays below 2 s. An attempt to make one goes on (dialer.ts). */
const CONNECT_TIMEOUT_MS = 800
/** Callers that may wait for a connection; one more is refused at once. */
const MAX_WAITING = 500
/** A failure keeps waits for a connection short for so long. */
const TROUBLED_MS = 2_000

export class Pool implements Database {
  readonly #connections: Connections
  readonly #dialer: Dialer
  readonly #isDialerOurs: boolean
  readonly #isPrepared: boolean
  #refused = 0
  readonly #failpoint: AtFailpoint | undefined
  #respondedAtMs = Number.NEGATIVE_INFINITY
  /** When the database was last found to be away. */
  #failedAtMs = Number.NEGATIVE_INFINITY
  /** From then on a failure says nothing about the database. */
  #isClosed = false
  readonly #onOutcome: (outcome: Outcome) => void
  /** Makes a connection like those of the pool that does not belong to it. */
  readonly attempt: DialRequest['attempt']
  /** A statement got no response there: the next attempt tries it last, for its standby may have been promoted. */
  #silent: ServerConfig | undefined

  constructor(options: PoolOptions) {
    const clientOptions = clientOptionsOf(options)
    const servers = serversOf(options.url)
    this.#dialer = options.dialer ?? new Dialer()
    this.#isDialerOurs = options.dialer === undefined
    this.#isPrepared = options.isPrepared
    this.#onOutcome = options.onOutcome ?? (() => {})
    this.#failpoint = options.failpoint
    const onFailed = (error: unknown) => this.#failed(CONNECT, error)
    const waitMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS
    this.attempt = (signal) => {
      const last = servers.filter((server) => server === this.#silent)
      const first = servers.filter((server) => server !== this.#silent)
      this.#silent = undefined
      return connect([...first, ...last], clientOptions, signal)
    }
    this.#connections = new Connections({
      dialer: this.#dialer,
      max: options.maxConnections,
      waitMs,
      isTroubled: () =>
        waitMs <= CONNECT_TIMEOUT_MS && performance.now() - this.#failedAtMs < TROUBLED_MS,
      attempt: this.attempt,
      onSilent: onFailed,
      onFailed,
      onLost: (error) => this.#failed(LOST, error),
    })
  }

  /** Those being made, and those given up that the server has not closed yet, among them. */
  get connectionsInUse(): number {
    return this.#connections.inUse
  }

  get waiting(): number {
    return this.#connections.waiting
  }

  /** Callers that got no connection, since too many waited or their wait was too long. */
  get refused(): number {
    return this.#refused
  }

  /** Since the last answer to a statement, be it an error of its own (a lock, a time-out there); Infinity before the first. */
  get msSinceResponse(): number {
    return performance.now() - this.#respondedAtMs
  }

  query<Row extends object>(query: Query): Promise<Result<Row>> {
    return this.#withClient(query.name, async (client) =>
      resultOf(await this.#run<Row>(client, query, true)),
    )
  }

  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    return this.#withClient('begin', async (client) => {
      const run = (text: string, isWrite = false) =>
        this.#observed(client, { name: text, text }, client.query(text), () => isWrite)
      await run('begin')
      try {
        let hasWritten = false
        const value = await work({
          query: async <Row extends object>(query: Query) => {
            const result = await this.#run<Row>(client, query, false)
            hasWritten ||= hasChanged(query, result)
            return resultOf(result)
          },
        })
        this.#failpoint?.('before_commit')
        // A failed transaction answers COMMIT with ROLLBACK and no error.
        const { command } = await run('commit', hasWritten)
        if (command !== 'COMMIT') throw new Error(`the transaction ended in ${command}`)
        return value
      } catch (error) {
        // On a connection that is lost or stuck a rollback would only wait once more.
        if (!isUnavailable(error) || leavesSessionSound(error)) await client.query('rollback')
        throw error
      }
    })
  }

  /** Closes at once the connections for which `isOld` holds; their statements fail. */
  drop(isOld: (client: ServerClient) => boolean): void {
    this.#connections.drop(isOld)
  }

  /** Waits for clients in use for at most `deadlineMs`, then leaves them to the end of the process. */
  async close(deadlineMs: number): Promise<void> {
    this.#isClosed = true
    const closed = this.#connections.close()
    if (this.#isDialerOurs) this.#dialer.close()
    await waitAtMost(closed, deadlineMs)
  }

  /** `isAlone`: in a transaction of its own. */
  #run<Row extends object>(
    client: ServerClient,
    query: Query,
    isAlone: boolean,
  ): Promise<pg.QueryResult<Row>> {
    const answer = isRefused(client, query)
      ? Promise.reject(new RewoundError(client.rewound))
      : client.query<Row>({
          ...(this.#isPrepared && { name: query.name }),
          text: query.text,
          values: [...(query.values ?? [])],
        })
    return this.#observed(client, query, answer, (result) => isAlone && hasChanged(query, result))
  }

  async #observed<T>(
    client: ServerClient,
    query: Query,
    work: Promise<T>,
    isWrite: (value: T) => boolean,
  ): Promise<T> {
    const what = query.name
    const startedAtMs = performance.now()
    try {
      const value = await work
      if (client.isUnreplicated) throw new UnreplicatedError()
      this.#respondedAtMs = performance.now()
      const { connectedAtMs } = client
      const outcome = { what, startedAtMs, connectedAtMs, isWrite: isWrite(value) }
      this.#onOutcome({ kind: 'worked', ...outcome })
      return value
    } catch (error) {
      if (isGivenUp(error)) {
        client.isAbandoned = true
        this.#silent = client.server
      }
      if (sqlstate(error) !== undefined && !isAway(error)) this.#respondedAtMs = performance.now()
      this.#failed(what, error, mayWrite(query) || error instanceof RewoundError)
      throw withStatement(error, what)
    }
  }

  #failed(what: string, error: unknown, isWrite = false): void {
    if (this.#isClosed || !isUnavailable(error)) return
    if (isAway(error)) {
      this.#failedAtMs = performance.now()
      this.#dialer.suspectTrouble()
    }
    this.#onOutcome({ kind: 'failed', what, error, isWrite })
  }

  /** A wait for our own connections says nothing new of the database: those who hold them, or open them, do. */
  async #take(what: string): Promise<ServerClient> {
    try {
      return await this.#connections.take()
    } catch (error) {
      const isOverload =
        error instanceof OwnWaitError &&
        this.#connections.isConnected &&
        this.#failedAtMs <= this.#respondedAtMs
      throw isOverload ? this.#overloaded(what, error) : withStatement(unavailable(error), what)
    }
  }

  #overloaded(what: string, cause?: unknown): AppError {
    this.#refused += 1
    return overloaded(what, cause)
  }

  async #withClient<T>(what: string, work: (client: ServerClient) => Promise<T>): Promise<T> {
    if (this.#connections.waiting >= MAX_WAITING) throw this.#overloaded(what)
    const client = await this.#take(what)
    try {
      const value = await work(client)
      this.#connections.giveBack(client, !client.isReadOnly)
      return value
    } catch (error) {
      if (isGivenUp(error)) client.isAbandoned = true // by a rollback, too
      // A mere 23505 must not cost a connection.
      const isSound = error instanceof AppError || leavesSessionSound(error)
      this.#connections.giveBack(client, isSound && !client.isAbandoned)
      if (!isUnavailable(error)) throw error
      throw unavailable(error)
    }
  }
}

function isRefused({ rewound }: ServerClient, query: Query): boolean {
  return rewound !== undefined && (query.provesUnknown === true || mayWrite(query))
}

function resultOf<Row extends object>({ rows, rowCount }: pg.QueryResult<Row>): Result<Row> {
  return { rows, rowCount: rowCount ?? 0 }
}
