/**
 * A connection that knows whether its server takes writes: PostgreSQL (from 14) reports that at the beginning and when
 * it changes, without being asked. PgBouncer may keep it to itself; then the first write that fails (25006) tells.
 */
import pg from 'pg'

/** As PostgreSQL's own for a write: read_only_sql_transaction. */
export class ReadOnlyServerError extends Error {
  override readonly name = 'ReadOnlyServerError'
  readonly code = '25006'

  constructor() {
    super('the server only reads: it is a standby, or default_transaction_read_only is on')
  }
}

const REPORTS: ReadonlySet<string> = new Set(['in_hot_standby', 'default_transaction_read_only'])

export interface ServerClientConfig extends pg.ClientConfig {
  /** Told of an attempt to connect that failed; undefined: it was silent for too long, or cut off. */
  readonly onConnectFailed?: (fault: Error | undefined) => void
}

export class ServerClient extends pg.Client {
  /** When it was first ready for a query, by performance.now(). */
  connectedAtMs = 0
  readonly #reasons = new Set<string>()

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
      if (!REPORTS.has(name)) return
      if (value === 'on') this.#reasons.add(name)
      else this.#reasons.delete(name)
    })
  }

  get isReadOnly(): boolean {
    return this.#reasons.size > 0
  }
}

export function isReadOnly(client: pg.ClientBase): boolean {
  return client instanceof ServerClient && client.isReadOnly
}
