/**
 * A connection that knows whether its server takes writes: PostgreSQL (from 14) reports that at the beginning and when
 * it changes, without being asked. PgBouncer may keep it to itself; then the first write that fails (25006) tells.
 */
import type { ConnectionOptions } from 'node:tls'
import pg from 'pg'
import type { ServerConfig } from './database-url.ts'

const STANDBY = 'in_hot_standby'
const READ_ONLY = 'default_transaction_read_only'
type ReadOnlyReason = typeof STANDBY | typeof READ_ONLY

/** As PostgreSQL's own for a write: read_only_sql_transaction. */
export class ReadOnlyServerError extends Error {
  override readonly name = 'ReadOnlyServerError'
  readonly code = '25006'

  constructor(reasons: ReadonlySet<ReadOnlyReason>) {
    const why = reasons.has(STANDBY) ? 'it is a standby' : `${READ_ONLY} is on`
    super(`the server only reads: ${why}`)
  }
}

/** Where a server that takes writes is. */
export interface Position {
  /** Of the cluster: made by initdb, the same on its standbys. Decimal. */
  readonly systemId: string
  readonly timeline: number
  /** What is on disk of the log, as pg_lsn shows it, such as `16/B374D848`. */
  readonly lsn: string
}

/**
 * A write for a server that has lost something. Class 08, a subclass of our own: there is no database to write to. It was
 * never sent, so the connection is sound.
 */
export class RewoundError extends Error {
  override readonly name = 'RewoundError'
  readonly code = '08R00'
}

/** What a cancel request must show. */
export interface BackendKey {
  readonly processId: number
  readonly secretKey: number
}

export class ServerClient extends pg.Client {
  /** When it was first ready for a query, by performance.now(). */
  connectedAtMs = 0
  readonly readOnlyReasons = new Set<ReadOnlyReason>()
  /** undefined until the login is through. */
  backendKey: BackendKey | undefined
  /** It broke or was closed. */
  isLost = false
  /** A statement of it was given up, and may still run on the server. */
  isAbandoned = false
  /** Its wait for a standby was cancelled: what it committed may be lost with this server. */
  isUnreplicated = false
  /** Of its server, when the connection was made; undefined where that does not tell. */
  position: Position | undefined
  /** What its server has lost, in a sentence: then it gets no writes. Set once, when the connection was made. */
  rewound: string | undefined
  /** The host of DATABASE_URL that it belongs to. */
  readonly server: ServerConfig
  /** undefined: without TLS. */
  readonly tls: ConnectionOptions | undefined

  constructor(config: pg.ClientConfig, server: ServerConfig) {
    super(config)
    this.server = server
    this.tls = typeof config.ssl === 'object' ? config.ssl : undefined
    const { connection } = this
    connection.once('readyForQuery', () => {
      this.connectedAtMs = performance.now()
    })
    connection.on('backendKeyData', ({ processID: processId, secretKey }) => {
      this.backendKey = { processId, secretKey }
    })
    connection.on('parameterStatus', ({ parameterName: name, parameterValue: value }) => {
      if (name !== STANDBY && name !== READ_ONLY) return
      if (value === 'on') this.readOnlyReasons.add(name)
      else this.readOnlyReasons.delete(name)
    })
    this.on('notice', ({ routine }) => {
      if (routine === 'SyncRepWaitForLSN') this.isUnreplicated = true
    })
    const lost = () => {
      this.isLost = true
    }
    // pg emits it between two statements as well, and without a listener it would end the process.
    this.on('error', lost).on('end', lost)
  }

  get isReadOnly(): boolean {
    return this.readOnlyReasons.size > 0
  }
}
