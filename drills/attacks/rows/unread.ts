/** How much a client can leave unread before answers stay in the service's own memory. */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

const FULL_AFTER_MS = 200

/** Bytes that the system holds of a connection over loopback whose reader reads nothing, written `sizeBytes` at a time. */
export async function unreadCapacity(sizeBytes: number): Promise<number> {
  const server = createServer({ noDelay: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const reader = connect({ port, host: '127.0.0.1' }).pause()
  const [writer] = await once(server, 'connection')
  const piece = Buffer.alloc(sizeBytes)
  let written = 0
  for (;;) {
    written += sizeBytes
    if (writer.write(piece) || writer.writableLength === 0) continue
    await wait(FULL_AFTER_MS)
    if (writer.writableLength > 0) break
  }
  reader.destroy()
  writer.destroy()
  server.close()
  return written
}
