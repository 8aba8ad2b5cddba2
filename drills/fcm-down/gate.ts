/** The way to the FCM stand-in: it can be shut, so that connections are refused, and counts those that are open. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export interface FcmGate {
  /** For FCM_BASE_URL. */
  readonly baseUrl: string
  /** The most connections that were open at once. */
  readonly peak: number
  /** Cuts what is open and refuses what comes. */
  shut(): Promise<void>
  open(): Promise<void>
}

/** Open, on any free port, in front of `baseUrl`. */
export async function startFcmGate(baseUrl: string): Promise<FcmGate> {
  const target = new URL(baseUrl)
  const sockets = new Set<Socket>()
  let peak = 0
  const server = createServer((socket) => {
    const onward = connect(Number(target.port), target.hostname)
    sockets.add(socket)
    // What was closed before this one came may only be seen after it, in the same turn.
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
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  await listen(0)
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0

  return {
    baseUrl: `http://127.0.0.1:${port}`,
    get peak() {
      return peak
    },
    open: () => listen(port),
    async shut() {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
