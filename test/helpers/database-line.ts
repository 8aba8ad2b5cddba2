/** A TCP line to a database that can be frozen, all of it or what comes: open, accepting, and silent. */
import { once } from 'node:events'
import { type AddressInfo, connect as connectTo, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** `url` leads over it; its end is that of `t`. */
export async function lineTo(t: Test, url: string) {
  const target = new URL(url)
  const directory = target.searchParams.get('host')
  const port = Number(target.port || 5432)
  const sockets = new Set<Socket>()
  let isFrozen = false
  const server = createServer((client) => {
    const backend = directory?.startsWith('/')
      ? connectTo(`${directory}/.s.PGSQL.${port}`)
      : connectTo(port, directory ?? target.hostname)
    for (const [from, to] of [
      [client, backend],
      [backend, client],
    ] as const) {
      sockets.add(from)
      from.pipe(to)
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
      if (isFrozen) from.pause()
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  target.searchParams.delete('host')
  target.host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url: target.href,
    /** New ones go on. */
    freezeOpen() {
      for (const socket of sockets) socket.pause()
    },
    /** Those that are open go on. */
    freezeNew() {
      isFrozen = true
    },
    freeze() {
      isFrozen = true
      for (const socket of sockets) socket.pause()
    },
    thaw() {
      isFrozen = false
      for (const socket of sockets) socket.resume()
    },
  }
}
