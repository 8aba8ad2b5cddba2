/** A cancel request, over a connection of its own as the protocol wants it: to the same server, with TLS where that one has it. */
import { once } from 'node:events'
import { connect, isIP, Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ServerClient } from './server-client.ts'

const CANCEL_CODE = 80_877_102
const SSL_CODE = 80_877_103

/** A server that is frozen takes none. */
const CANCEL_MS = 60_000

/**
 * Resolves when the server has taken it, which promises nothing: the statement may have ended, or no longer listen.
 * Never rejects. It goes on when the connection has ended meanwhile, and is not half-closed: PgBouncer before 1.20
 * drops a request whose sender leaves first, and ends itself with all its connections.
 */
export async function cancelStatement(client: ServerClient): Promise<void> {
  const { backendKey } = client
  if (backendKey === undefined) return // the login has not come so far
  const signal = AbortSignal.timeout(CANCEL_MS)
  let socket = reach(client)
  try {
    socket.unref().on('error', () => {})
    await once(socket, 'connect', { signal })
    if (client.tls) {
      socket.write(message(SSL_CODE))
      const [answer] = await once(socket, 'data', { signal })
      if (String(answer) !== 'S') return
      const named = isIP(client.host) === 0 && { servername: client.host }
      socket = connectTls({ socket, host: client.host, ...named, ...client.tls })
      socket.on('error', () => {})
      await once(socket, 'secureConnect', { signal })
    }
    const closed = once(socket, 'close', { signal })
    socket.resume().write(message(CANCEL_CODE, backendKey.processId, backendKey.secretKey))
    await closed
  } catch {
    // It could not be told: the connection counts until the server closes it.
  } finally {
    socket.destroy()
  }
}

/** Where the connection itself leads to: of a name with several addresses the same one. */
function reach(client: ServerClient): Socket {
  if (client.host.startsWith('/')) return connect(`${client.host}/.s.PGSQL.${client.port}`)
  const { stream } = client.connection
  if (!(stream instanceof Socket)) return connect(client.port, client.host)
  return connect(stream.remotePort ?? client.port, stream.remoteAddress ?? client.host)
}

/** Its own length, then 32-bit numbers. */
function message(...numbers: readonly number[]): Buffer {
  const all = [4 * (numbers.length + 1), ...numbers]
  const buffer = Buffer.alloc(4 * all.length)
  for (const [index, number] of all.entries()) buffer.writeInt32BE(number, 4 * index)
  return buffer
}
