/** Servers of tests and drills, on free ports of 127.0.0.1. */
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'

/** Resolves with the port once `server` listens. Rejects if `port` is taken. */
export async function listen(server: Server, port = 0): Promise<number> {
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** A port on which nobody listens. Another process may take it, but the kernel gives it to none that asks for any: Linux gives those from 32768 on. */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer()
    const port = await listen(server, randomInt(20_000, 32_768)).catch(() => undefined)
    if (port === undefined) continue
    server.close()
    await once(server, 'close')
    return port
  }
}
