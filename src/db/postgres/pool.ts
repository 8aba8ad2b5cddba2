/**
 * A bounded pool of PostgreSQL connections. It never hangs, never crashes the process and never hands out a broken
 * connection. Its timeouts work around measured flaws of `pg`.
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

/** One statement. `name` prepares it (unless DATABASE_PREPARED=false) and labels its errors. */
export interface Query {
  readonly name: string
  readonly text: string
  readonly values?: readonly unknown[]
  /** The text differs from call to call: it is never prepared, or each connection would keep a statement for each. */
  readonly isVarying?: true
  /** Instead of the pool's, on our side of the connection; the server's is `statement_timeout`. */
  readonly timeoutMs?: number
  /** Every success is a write, although the text is a `select`. */
  readonly isWrite?: true
  /** An empty result proves a credential bad, so a server that lost data refuses it, as it does writes. */
  readonly provesUnknown?: true
}

export interface Result<Row> {
  readonly rows: readonly Row[]
  readonly rowCount: number
}

export interface Queryable {
  /** Throws AppError `db_unavailable` or `overloaded` if the database is away, slow or full; otherwise pg's own error. */
  query<Row extends object>(query: Query): Promise<Result<Row>>
}

export interface Database extends Queryable {
  /** Runs `work` in one transaction; rolls back when it throws; resolves only after a real COMMIT. */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>
}

export interface PoolOptions {
  readonly url: string
  /** Default: its own. The pools of a process share one. */
  readonly dialer?: Dialer
  readonly maxConnections: number
  readonly isPrepared: boolean
  /** Longest statement, enforced on both sides of the connection. Default QUERY_TIMEOUT_MS. */
  readonly queryTimeoutMs?: number
  /** Longest wait for a connection. Default CONNECT_TIMEOUT_MS. */
  readonly connectTimeoutMs?: number
  /** Longest wait for a row or table lock. Default LOCK_TIMEOUT_MS. */
  readonly lockTimeoutMs?: number
  /** Additional server settings, such as plan_cache_mode. */
  readonly serverSettings?: Readonly<Record<string, string>>
  /** Verifies each new connection before use. */
  readonly verifySession?: VerifySession
  readonly failpoint?: AtFailpoint | undefined
  /** Receives every success and every failure for lack of a database. */
  readonly onOutcome?: (outcome: Outcome) => void
}

/** Longest wait for a connection. With a query it stays below 2 s. The connection attempt itself goes on (dialer.ts). */
const CONNECT_TIMEOUT_MS = 800
/** Callers that may wait for a connection; the next one is refused at once. */
const MAX_WAITING = 500
/** How long waits for a connection stay short after a failure. */
const TROUBLED_MS = 2_000

export class Pool implements Database {
  readonly #connections: Connections
  readonly #dialer: Dialer
  readonly #isDialerOurs: boolean
  readonly #isPrepared: boolean
  #refused = 0
  readonly #failpoint: AtFailpoint | undefined
  #respondedAtMs = Number.NEGATIVE_INFINITY
  /** When the database was last away. */
  #failedAtMs = Number.NEGATIVE_INFINITY
  /** Failures after that say nothing about the database. */
  #isClosed = false
  readonly #onOutcome: (outcome: Outcome) => void
  /** Makes a connection like the pool's own, outside of the pool. */
  readonly attempt: DialRequest['attempt']
  /** The server of a statement without response: the next attempt tries it last, since its standby may be promoted. */
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
      onLost: (error, client) => this.#failed(LOST, error, client),
    })
  }

  /** Includes connections being made, and abandoned ones that the server has not closed yet. */
  get connectionsInUse(): number {
    return this.#connections.inUse
  }

  get waiting(): number {
    return this.#connections.waiting
  }

  /** Callers that got no connection: too many waited, or they waited too long. */
  get refused(): number {
    return this.#refused
  }

  /** Since the last response to a statement, even an error (a lock, a timeout on the server); Infinity before the first. */
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
        // COMMIT of a failed transaction returns ROLLBACK and no error.
        const { command } = await run('commit', hasWritten)
        if (command !== 'COMMIT') throw new Error(`the transaction ended in ${command}`)
        return value
      } catch (error) {
        // On a lost or hanging connection a rollback would only wait again.
        if (!isUnavailable(error) || leavesSessionSound(error)) await client.query('rollback')
        throw error
      }
    })
  }

  /** Closes immediately the connections for which `isOld` holds; their statements fail. */
  drop(isOld: (client: ServerClient) => boolean): void {
    this.#connections.drop(isOld)
  }

  /** Waits at most `deadlineMs` for clients in use, then abandons them. */
  async close(deadlineMs: number): Promise<void> {
    this.#isClosed = true
    const closed = this.#connections.close()
    if (this.#isDialerOurs) this.#dialer.close()
    await waitAtMost(closed, deadlineMs)
  }

  /** `isAlone`: the statement is its own transaction. */
  #run<Row extends object>(
    client: ServerClient,
    query: Query,
    isAlone: boolean,
  ): Promise<pg.QueryResult<Row>> {
    const result = isRefused(client, query)
      ? Promise.reject(new RewoundError(client.rewound))
      : client.query<Row>({
          ...(this.#isPrepared && !query.isVarying && { name: query.name }),
          text: query.text,
          values: [...(query.values ?? [])],
          ...(query.timeoutMs && { query_timeout: query.timeoutMs }),
        })
    return this.#observed(client, query, result, (value) => isAlone && hasChanged(query, value))
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
      const isWrite = mayWrite(query) || error instanceof RewoundError
      this.#failed(what, error, client, isWrite)
      throw withStatement(error, what)
    }
  }

  #failed(what: string, error: unknown, client?: ServerClient, isWrite = false): void {
    if (this.#isClosed || !isUnavailable(error)) return
    if (isAway(error)) {
      this.#failedAtMs = performance.now()
      this.#dialer.suspectTrouble()
    }
    const connectedAtMs = client?.connectedAtMs
    this.#onOutcome({ kind: 'failed', what, error, isWrite, connectedAtMs })
  }

  /** Waiting for our own connections says nothing new about the database; the calls that hold or open them do. */
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
      if (isGivenUp(error)) client.isAbandoned = true // even by a rollback
      // An error such as 23505 must not cost a connection.
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
