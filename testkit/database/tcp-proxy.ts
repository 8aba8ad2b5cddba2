/** A TCP proxy to a database that can be frozen, completely or for new connections, or moved to another target. */
import { once } from 'node:events'
import { type AddressInfo, connect as connectTo, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** Runs until the end of `t`; `url` is the proxied one. */
export async function lineTo(t: Test, url: string) {
  let target = placeOf(url)
  const sockets = new Set<Socket>()
  let isFrozen = false
  const server = createServer((client) => {
    const backend = 'path' in target ? connectTo(target.path) : connectTo(target.port, target.host)
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
  const over = new URL(url)
  over.searchParams.delete('host')
  over.host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url: over.href,
    /** Affects new connections only. */
    leadTo(other: string) {
      target = placeOf(other)
    },
    /** New ones go on. */
    freezeOpen() {
      for (const socket of sockets) socket.pause()
    },
    /** Open ones go on. */
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

function placeOf(
  url: string,
): { readonly path: string } | { readonly port: number; readonly host: string } {
  const { hostname, port, searchParams } = new URL(url)
  const host = searchParams.get('host') ?? hostname
  return host.startsWith('/')
    ? { path: `${host}/.s.PGSQL.${port || 5432}` }
    : { port: Number(port || 5432), host }
}
