/** How much a client can leave unread before responses stay in the service's memory. */

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { listen } from '../../../testkit/listen.ts'

const FULL_AFTER_MS = 200

/** Bytes that the system buffers on an unread loopback connection, written `sizeBytes` at a time. */
export async function unreadCapacity(sizeBytes: number): Promise<number> {
  const server = createServer({ noDelay: true })
  const port = await listen(server)
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
