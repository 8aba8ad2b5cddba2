/**
 * A connection that knows whether its server accepts writes. PostgreSQL 14 and later reports that at login and after
 * each change. PgBouncer may swallow it; then the first failed write (25006) shows it.
 */
import type { Duplex } from 'node:stream'
import type { ConnectionOptions } from 'node:tls'
import pg from 'pg'
import { errorText } from '../../lib/error-text.ts'
import type { ServerConfig } from './database-url.ts'

const STANDBY = 'in_hot_standby'
const READ_ONLY = 'default_transaction_read_only'
type ReadOnlyReason = typeof STANDBY | typeof READ_ONLY

/** PostgreSQL's read_only_sql_transaction. */
export class ReadOnlyServerError extends Error {
  override readonly name = 'ReadOnlyServerError'
  readonly code = '25006'

  constructor(reasons: ReadonlySet<ReadOnlyReason>) {
    const why = reasons.has(STANDBY) ? 'it is a standby' : `${READ_ONLY} is on`
    super(`the server only reads: ${why}`)
  }
}

/** The position of a primary in its log. */
export interface Position {
  /** Identifies the cluster: created by initdb, the same on its standbys. Decimal. */
  readonly systemId: string
  readonly timeline: number
  /** The flushed end of the log, as pg_lsn prints it, such as `16/B374D848`. */
  readonly lsn: string
}

/**
 * Refuses a write to a server that has lost data. Class 08 (no database to write to) with a subclass of our own. The
 * statement was not sent, so the connection is still usable.
 */
export class RewoundError extends Error {
  override readonly name = 'RewoundError'
  readonly code = '08R00'
}

/** Authorizes a cancel request. */
export interface BackendKey {
  readonly processId: number
  readonly secretKey: number
}

export class ServerClient extends pg.Client {
  /** When it was first ready for a query, in performance.now() time. */
  connectedAtMs = 0
  readonly readOnlyReasons = new Set<ReadOnlyReason>()
  /** undefined until login completes. */
  backendKey: BackendKey | undefined
  /** The connection broke or was closed. */
  isLost = false
  /** A statement was abandoned and may still run on the server. */
  isAbandoned = false
  /** A wait for a standby was cancelled: the commit may be lost with this server. */
  isUnreplicated = false
  /** The server's position at login; undefined if the server does not reveal it. */
  position: Position | undefined
  /** Describes what the server has lost; such a server gets no writes. Set once, at login. */
  rewound: string | undefined
  /** The host of DATABASE_URL. */
  readonly server: ServerConfig
  /** undefined: without TLS. */
  readonly tls: ConnectionOptions | undefined

  constructor(config: pg.ClientConfig, server: ServerConfig) {
    super(config)
    this.server = server
    this.tls = typeof config.ssl === 'object' ? config.ssl : undefined
    const { connection } = this
    connection.once(this.tls ? 'sslconnect' : 'connect', () => catchParser(connection.stream))
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
    // pg also emits 'error' between statements; without a listener it would end the process.
    this.on('error', lost).on('end', lost)
  }

  get isReadOnly(): boolean {
    return this.readOnlyReasons.size > 0
  }
}

/**
 * The parser of `pg` throws at a message that it does not know, such as a request for GSSAPI (`gss` in pg_hba.conf).
 * That costs the connection, not the process. 08P01 is protocol_violation.
 */
function catchParser(stream: Duplex): void {
  const [parse] = stream.listeners('data')
  stream.removeAllListeners('data').on('data', (chunk) => {
    try {
      parse?.(chunk)
    } catch (error) {
      const message = `its message cannot be read: ${errorText(error)}`
      stream.destroy(Object.assign(new Error(message, { cause: error }), { code: '08P01' }))
    }
  })
}
