/** Connections that no pool holds: of the migrations, and of the embedded database's own start. pool.ts makes the others. */
import { connectionOf } from './database-url.ts'
import {
  isReadOnly,
  ReadOnlyServerError,
  ServerClient,
  type ServerClientConfig,
} from './server-client.ts'
import { connectFailure } from './sqlstate.ts'

/** What a connection is asked for besides its URL. */
export interface ConnectOptions
  extends Omit<
    ServerClientConfig,
    'connectionString' | 'host' | 'port' | 'user' | 'password' | 'database' | 'ssl'
  > {
  /** Takes a standby as well. */
  readonly mayBeReadOnly?: boolean
}

/**
 * One attempt. Resolves with a connection to a server that takes writes, which the caller closes; rejects with an error
 * that sqlstate.ts knows. `signal` ends the attempt: its reason is the error.
 */
export async function connect(
  url: string,
  { mayBeReadOnly = false, ...options }: ConnectOptions,
  signal: AbortSignal,
): Promise<ServerClient> {
  const client = new ServerClient({ ...connectionOf(url), ...options })
  const giveUp = () => client.connection.stream.destroy(signal.reason)
  try {
    signal.throwIfAborted()
    signal.addEventListener('abort', giveUp)
    await client.connect()
    // What a standby knows may be old, and it takes no writes.
    if (!mayBeReadOnly && isReadOnly(client)) throw new ReadOnlyServerError(client.readOnlyReasons)
    return client
  } catch (error) {
    client.connection.stream.destroy()
    throw connectFailure(signal.aborted ? signal.reason : error)
  } finally {
    signal.removeEventListener('abort', giveUp)
  }
}
