/**
 * The way to PostgreSQL: a bounded pool that never hangs, never crashes the process and never hands
 * out a poisoned connection. Its time-outs and listeners answer measured traps of `pg`.
 */
import pg from 'pg'
import { AppError } from '../core/errors.ts'
import type { AtFailpoint } from '../core/failpoint.ts'
import { within } from '../core/wait.ts'
import { marked, overloaded, unavailable } from './call-failure.ts'
import { connectionOf } from './database-url.ts'
import {
  isReadOnly,
  ReadOnlyServerError,
  readOnlyReasons,
  ServerClient,
  type ServerClientConfig,
} from './server-client.ts'
import { PINNED_SETTINGS, type VerifySession } from './session-check.ts'
import {
  connectFailure,
  isAway,
  isOwnWait,
  isUnavailable,
  leavesSessionSound,
  sqlstate,
} from './sqlstate.ts'

/** One statement. `name` makes it a prepared statement (unless DATABASE_PREPARED=false) and labels its errors. */
export interface Query {
  readonly name: string
  readonly text: string
  readonly values?: readonly unknown[]
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

/** How a statement went, an attempt to connect, or a connection: `what` is the query's name, `begin`, `commit`, CONNECT or LOST. */
export type Outcome =
  | { readonly kind: 'failed'; readonly what: string; readonly error: unknown }
  | {
      readonly kind: 'worked'
      readonly what: string
      /** When it was begun, and when its connection was made: by performance.now(). */
      readonly startedAtMs: number
      readonly connectedAtMs: number
    }

export interface PoolOptions {
  readonly url: string
  readonly maxConnections: number
  readonly isPrepared: boolean
  /** Statements longer than this are given up, on both sides of the connection. Default QUERY_TIMEOUT_MS. */
  readonly queryTimeoutMs?: number
  /** Longest wait for a connection. Default CONNECT_TIMEOUT_MS. */
  readonly connectTimeoutMs?: number
  /** Callers that may wait for a connection; one more is refused at once. Default MAX_WAITING. */
  readonly maxWaiting?: number
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

/** What is said of a connection that could not be made. */
export const CONNECT = 'connect'
/** And of one that ended; what was asked on it fails by itself. */
export const LOST = 'lost connection'
/** Longest wait for a connection, the pool's own and the network's. Together with a query it stays below 2 s. */
const CONNECT_TIMEOUT_MS = 800
/** What a new connection is asked must be answered within that as well, or within this where it took so long to make. */
const MIN_VERIFY_MS = 200
const QUERY_TIMEOUT_MS = 1_100
const LOCK_TIMEOUT_MS = 500
const IDLE_TIMEOUT_MS = 300_000
const MAX_WAITING = 500

export class Pool implements Database {
  readonly #pool: pg.Pool
  readonly #isPrepared: boolean
  readonly #maxWaiting: number
  #refused = 0
  readonly #failpoint: AtFailpoint | undefined
  #answeredAtMs = Number.NEGATIVE_INFINITY
  /** When the database was last found to be away. */
  #failedAtMs = Number.NEGATIVE_INFINITY
  /** From then on a failure says nothing about the database. */
  #isClosed = false
  readonly #onOutcome: (outcome: Outcome) => void
  readonly #verifySession: VerifySession | undefined
  readonly #connectTimeoutMs: number

  constructor(options: PoolOptions) {
    const queryTimeoutMs = options.queryTimeoutMs ?? QUERY_TIMEOUT_MS
    this.#verifySession = options.verifySession
    this.#connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS
    this.#isPrepared = options.isPrepared
    this.#maxWaiting = options.maxWaiting ?? MAX_WAITING
    this.#onOutcome = options.onOutcome ?? (() => {})
    const config: pg.PoolConfig & ServerClientConfig = {
      ...connectionOf(options.url),
      max: options.maxConnections,
      connectionTimeoutMillis: this.#connectTimeoutMs,
      query_timeout: queryTimeoutMs,
      // The default of 10 s would open a new connection, and prepare anew, for nearly every quiet fleet's heartbeat.
      idleTimeoutMillis: IDLE_TIMEOUT_MS,
      keepAlive: true,
      maxLifetimeSeconds: 900,
      application_name: 'fleetloop',
      Client: ServerClient,
      // pg-pool tells only who still waits for that connection; under load all have given up before.
      onConnectFailed: (fault) => {
        const silent = 'no connection: it was silent for too long, or cut off'
        this.#failed(CONNECT, connectFailure(fault ?? new Error(silent)))
      },
      verify: (client, done) => {
        this.#verify(client).then(() => done(), done)
      },
      // Through PgBouncer these come from the role (ALTER ROLE … SET): it refuses start-up parameters.
      ...(options.isPrepared && {
        statement_timeout: queryTimeoutMs - 200,
        lock_timeout: options.lockTimeoutMs ?? LOCK_TIMEOUT_MS,
        idle_in_transaction_session_timeout: 5_000,
        // To compile a statement takes longer than any of ours runs. Idle connections are the pool's to end.
        options: settingsText({
          ...PINNED_SETTINGS,
          jit: 'off',
          idle_session_timeout: '0',
          ...options.serverSettings,
        }),
      }),
    }
    this.#pool = new pg.Pool(config)
    this.#failpoint = options.failpoint
    const onLost = (error: unknown) => this.#failed(LOST, error)
    this.#pool.on('error', onLost)
    // A checked-out client that dies between two queries emits here, and would end the process.
    this.#pool.on('connect', (client) => client.on('error', onLost))
  }

  get connectionsInUse(): number {
    return this.#pool.totalCount - this.#pool.idleCount
  }

  get waiting(): number {
    return this.#pool.waitingCount
  }

  /** Callers that got no connection, since too many waited or their wait was too long. */
  get refused(): number {
    return this.#refused
  }

  /** Since the last answer to a statement, be it an error of its own (a lock, a time-out there); Infinity before the first. */
  get answeredMsAgo(): number {
    return performance.now() - this.#answeredAtMs
  }

  query<Row extends object>(query: Query): Promise<Result<Row>> {
    return this.#withClient(query.name, (client) => this.#run<Row>(client, query))
  }

  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    return this.#withClient('begin', async (client) => {
      await this.#told(client, 'begin', client.query('begin'))
      try {
        const value = await work({ query: (query) => this.#run(client, query) })
        this.#failpoint?.('before_commit')
        // A failed transaction answers COMMIT with ROLLBACK and no error.
        const { command } = await this.#told(client, 'commit', client.query('commit'))
        if (command !== 'COMMIT') throw new Error(`the transaction ended in ${command}`)
        return value
      } catch (error) {
        // On a connection that is lost or stuck a rollback would only wait once more.
        if (!isUnavailable(error) || leavesSessionSound(error)) await client.query('rollback')
        throw error
      }
    })
  }

  /** Waits for clients in use for at most `deadlineMs`, then leaves them to the end of the process. */
  async close(deadlineMs: number): Promise<void> {
    this.#isClosed = true
    await within(this.#pool.end(), deadlineMs)
  }

  async #run<Row extends object>(client: pg.PoolClient, query: Query): Promise<Result<Row>> {
    const answer = client.query<Row>({
      ...(this.#isPrepared && { name: query.name }),
      text: query.text,
      values: [...(query.values ?? [])],
    })
    const { rows, rowCount } = await this.#told(client, query.name, answer)
    return { rows, rowCount: rowCount ?? 0 }
  }

  async #told<T>(client: pg.PoolClient, what: string, work: Promise<T>): Promise<T> {
    const startedAtMs = performance.now()
    try {
      const value = await work
      this.#answeredAtMs = performance.now()
      const connectedAtMs = client instanceof ServerClient ? client.connectedAtMs : 0
      this.#onOutcome({ kind: 'worked', what, startedAtMs, connectedAtMs })
      return value
    } catch (error) {
      if (sqlstate(error) !== undefined && !isAway(error)) this.#answeredAtMs = performance.now()
      this.#failed(what, error)
      throw marked(error, what)
    }
  }

  #failed(what: string, error: unknown): void {
    if (this.#isClosed || !isUnavailable(error)) return
    if (isAway(error)) this.#failedAtMs = performance.now()
    this.#onOutcome({ kind: 'failed', what, error })
  }

  /** A wait for our own connections says nothing new of the database: those who hold them, or open them, do. */
  async #connect(what: string): Promise<pg.PoolClient> {
    try {
      return await this.#pool.connect()
    } catch (error) {
      if (isOwnWait(error)) {
        if (this.#failedAtMs <= this.#answeredAtMs) throw this.#overloaded(what, error)
        throw marked(unavailable(error), what)
      }
      const failure = connectFailure(error)
      this.#failed(CONNECT, failure)
      throw marked(unavailable(failure), what)
    }
  }

  /** Of a new connection; whoever waits for it may have given up. */
  async #verify(client: pg.PoolClient): Promise<void> {
    try {
      // A server that only reads, such as the old primary after a failover, is as good as none: what it knows is old.
      const reasons = readOnlyReasons(client)
      if (reasons.size > 0) throw new ReadOnlyServerError(reasons)
      const openedAtMs = client instanceof ServerClient ? client.openedAtMs : performance.now()
      const leftMs = this.#connectTimeoutMs - (performance.now() - openedAtMs)
      await this.#verifySession?.(client, Math.max(MIN_VERIFY_MS, leftMs))
    } catch (error) {
      const failure = connectFailure(error)
      this.#failed(CONNECT, failure)
      throw failure
    }
  }

  #overloaded(what: string, cause?: unknown): AppError {
    this.#refused += 1
    return overloaded(what, cause)
  }

  async #withClient<T>(what: string, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    if (this.#pool.waitingCount >= this.#maxWaiting) throw this.#overloaded(what)
    try {
      const client = await this.#connect(what)
      try {
        const value = await work(client)
        client.release(isReadOnly(client))
        return value
      } catch (error) {
        // pg-pool's own query() would close the connection on every error, also on a mere 23505.
        const isSound = error instanceof AppError || leavesSessionSound(error)
        client.release(!isSound)
        throw error
      }
    } catch (error) {
      if (!isUnavailable(error)) throw error
      throw unavailable(error)
    }
  }
}

function settingsText(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
    .join(' ')
}
