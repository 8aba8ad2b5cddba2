/** Sends a cancel request over a connection of its own, as the protocol requires, with TLS if the original has it. */
import { once } from 'node:events'
import { connect, isIP, Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ServerClient } from './server-client.ts'

const CANCEL_CODE = 80_877_102
const SSL_CODE = 80_877_103

/** A frozen server accepts none. */
const CANCEL_MS = 60_000

/**
 * Resolves when the server has received the request. That guarantees nothing: the statement may have ended or may
 * ignore it. Never rejects. Continues after the original connection ends, and does not half-close: PgBouncer before
 * 1.20 drops a request whose sender leaves first, and exits with all its connections.
 */
export async function cancelStatement(client: ServerClient): Promise<void> {
  const { backendKey } = client
  if (backendKey === undefined) return // login is incomplete
  const signal = AbortSignal.timeout(CANCEL_MS)
  let socket = connectLike(client)
  try {
    socket.unref().on('error', () => {})
    await once(socket, 'connect', { signal })
    if (client.tls) {
      socket.write(message(SSL_CODE))
      const [reply] = await once(socket, 'data', { signal })
      if (String(reply) !== 'S') return
      const named = isIP(client.host) === 0 && { servername: client.host }
      socket = connectTls({ socket, host: client.host, ...named, ...client.tls })
      socket.on('error', () => {})
      await once(socket, 'secureConnect', { signal })
    }
    const closed = once(socket, 'close', { signal })
    socket.resume().write(message(CANCEL_CODE, backendKey.processId, backendKey.secretKey))
    await closed
  } catch {
    // The request failed: the connection counts until the server closes it.
  } finally {
    socket.destroy()
  }
}

/** Connects to the address of the original connection, even if its name has several. */
function connectLike(client: ServerClient): Socket {
  if (client.host.startsWith('/')) return connect(`${client.host}/.s.PGSQL.${client.port}`)
  const { stream } = client.connection
  if (!(stream instanceof Socket)) return connect(client.port, client.host)
  return connect(stream.remotePort ?? client.port, stream.remoteAddress ?? client.host)
}

/** The message's length, then 32-bit numbers. */
function message(...numbers: readonly number[]): Buffer {
  const all = [4 * (numbers.length + 1), ...numbers]
  const buffer = Buffer.alloc(4 * all.length)
  for (const [index, number] of all.entries()) buffer.writeInt32BE(number, 4 * index)
  return buffer
}
