/**
 * A connection that knows whether its server takes writes: PostgreSQL (from 14) reports that at the beginning and when
 * it changes, without being asked. PgBouncer may keep it to itself; then the first write that fails (25006) tells.
 */
import pg from 'pg'

const STANDBY = 'in_hot_standby'
const READ_ONLY = 'default_transaction_read_only'
type ReadOnlyReason = typeof STANDBY | typeof READ_ONLY
const NONE: ReadonlySet<ReadOnlyReason> = new Set()

/** As PostgreSQL's own for a write: read_only_sql_transaction. */
export class ReadOnlyServerError extends Error {
  override readonly name = 'ReadOnlyServerError'
  readonly code = '25006'

  constructor(reasons: ReadonlySet<ReadOnlyReason>) {
    const why = reasons.has(STANDBY) ? 'it is a standby' : `${READ_ONLY} is on`
    super(`the server only reads: ${why}`)
  }
}

export interface ServerClientConfig extends pg.ClientConfig {
  /** Told of an attempt to connect that failed; undefined: it was silent for too long, or cut off. */
  readonly onConnectFailed?: (fault: Error | undefined) => void
}

export class ServerClient extends pg.Client {
  /** When it was begun, by performance.now(). */
  readonly openedAtMs = performance.now()
  /** When it was first ready for a query, by performance.now(). */
  connectedAtMs = 0
  readonly readOnlyReasons = new Set<ReadOnlyReason>()

  constructor(config?: ServerClientConfig) {
    super(config)
    const { connection } = this
    const told = () =>
      connection.off('error', failed).off('errorMessage', failed).off('end', failed)
    // pg leaves some of those sockets open until the server gives up, after a minute.
    const failed = (fault?: Error) => {
      told()
      config?.onConnectFailed?.(fault)
      connection.stream.destroy()
    }
    connection.on('error', failed).on('errorMessage', failed).on('end', failed)
    connection.once('readyForQuery', () => {
      told()
      this.connectedAtMs = performance.now()
    })
    this.connection.on('parameterStatus', ({ parameterName: name, parameterValue: value }) => {
      if (name !== STANDBY && name !== READ_ONLY) return
      if (value === 'on') this.readOnlyReasons.add(name)
      else this.readOnlyReasons.delete(name)
    })
  }
}

export function readOnlyReasons(client: pg.ClientBase): ReadonlySet<ReadOnlyReason> {
  return client instanceof ServerClient ? client.readOnlyReasons : NONE
}

export function isReadOnly(client: pg.ClientBase): boolean {
  return readOnlyReasons(client).size > 0
}
