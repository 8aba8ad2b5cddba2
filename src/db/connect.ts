/** The only place that makes a connection to PostgreSQL: which server a URL means is decided here, and nowhere above. */
import type pg from 'pg'
import { connectionOf } from './database-url.ts'
import { ReadOnlyServerError, ServerClient } from './server-client.ts'
import { connectFailure } from './sqlstate.ts'

/** What a connection is asked for besides its URL. */
export interface ConnectOptions
  extends Omit<
    pg.ClientConfig,
    'connectionString' | 'host' | 'port' | 'user' | 'password' | 'database' | 'ssl'
  > {
  /** Takes a standby as well. */
  readonly mayBeReadOnly?: boolean
  /** Asks it whether it can be relied on; throws where it cannot. Within the same attempt. */
  readonly verify?: (client: ServerClient) => Promise<void>
}

/**
 * One attempt. Resolves with a connection to a server that takes writes, which the caller closes; rejects with an error
 * that sqlstate.ts knows. `signal` ends the attempt: its reason is the error.
 */
export async function connect(
  url: string,
  { mayBeReadOnly = false, verify, ...options }: ConnectOptions,
  signal: AbortSignal,
): Promise<ServerClient> {
  const client = new ServerClient({ ...connectionOf(url), ...options })
  const giveUp = () => client.connection.stream.destroy(signal.reason)
  try {
    signal.throwIfAborted()
    signal.addEventListener('abort', giveUp)
    await client.connect()
    // What a standby knows may be old, and it takes no writes.
    if (!mayBeReadOnly && client.isReadOnly) throw new ReadOnlyServerError(client.readOnlyReasons)
    await verify?.(client)
    return client
  } catch (error) {
    client.connection.stream.destroy()
    throw connectFailure(signal.aborted ? signal.reason : error)
  } finally {
    signal.removeEventListener('abort', giveUp)
  }
}
