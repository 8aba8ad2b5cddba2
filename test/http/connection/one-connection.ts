/** A server of this process, and one connection to it. */
import { once } from 'node:events'
import { connect, type Server } from 'node:net'
import type { Test } from 'tap'
import { listenFor } from '../../helpers/listen.ts'
import { head } from '../../helpers/raw.ts'

/** For boundConnections: nothing of what it limits is reached. */
export const UNBOUND = { max: 10, isTrustedProxy: () => true }

/** Requests whose sockets Node detaches. */
export const DETACHING: readonly string[] = [
  head('GET /healthz HTTP/1.1', 'Connection: upgrade', 'Upgrade: h2c'),
  head('CONNECT a:443 HTTP/1.1'),
]

/** Both ends of the connection; they and the server end with `t`. */
export async function openOne(t: Test, server: Server) {
  const connected = once(server, 'connection')
  const client = connect(await listenFor(t, server), '127.0.0.1')
  t.teardown(() => client.destroy())
  client.on('error', () => {}) // it may be reset
  const [socket] = await connected
  return { client, socket }
}
