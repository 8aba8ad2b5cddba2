/** A gate in front of the fake FCM: it can refuse connections, and counts those that are open. */

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { listen } from '../../testkit/listen.ts'

export interface FcmGate {
  readonly baseUrl: string
  /** Maximum of connections open at once. */
  readonly peak: number
  /** Closes all connections and refuses new ones. */
  shut(): Promise<void>
  open(): Promise<void>
}

/** Listens on a free port in front of `baseUrl`. */
export async function startFcmGate(baseUrl: string): Promise<FcmGate> {
  const target = new URL(baseUrl)
  const sockets = new Set<Socket>()
  let peak = 0
  const server = createServer((socket) => {
    const onward = connect(Number(target.port), target.hostname)
    sockets.add(socket)
    // The close of an earlier connection may be seen later in the same turn.
    setImmediate(() => {
      peak = Math.max(peak, sockets.size)
    })
    socket.pipe(onward).pipe(socket)
    const end = () => {
      sockets.delete(socket)
      socket.destroy()
      onward.destroy()
    }
    for (const side of [socket, onward]) side.on('error', end).on('end', end).on('close', end)
  })
  const port = await listen(server)

  return {
    baseUrl: `http://127.0.0.1:${port}`,
    get peak() {
      return peak
    },
    open: async () => void (await listen(server, port)),
    async shut() {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
