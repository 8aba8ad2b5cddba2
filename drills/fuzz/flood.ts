/** Sends a flood on its own connection. A client that reads gets good responses; one that sends junk is closed. */
import { connect } from 'node:net'
import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises'
import { StrictReader } from '../../testkit/http/strict-reader.ts'
import type { FuzzFlood } from './delivery.ts'

const UNREAD_MS = 50
/**
 * For the close, from the last byte of a response on. The service spreads the responses to one that pipelines: those of
 * 10,000 requests may take minutes beside many others.
 */
const CLOSE_MS = 60_000

/** Returns what was wrong; undefined: nothing. */
export async function sendFlood(origin: string, flood: FuzzFlood): Promise<string | undefined> {
  const { hostname, port } = new URL(origin)
  const socket = connect({ host: hostname, port: Number(port), noDelay: true })
  socket.on('error', () => {}) // a reset is also a close
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const reader = new StrictReader()
  let fault: string | undefined
  let closeTimer: NodeJS.Timeout | undefined
  const read = (bytes: Buffer) => {
    closeTimer?.refresh()
    reader.push(bytes)
    try {
      while (reader.next(flood.isHead) !== undefined);
    } catch (error) {
      fault ??= String(error)
    }
  }
  if (flood.isRead) socket.on('data', read)
  socket.write(flood.requests)
  for (const junk of flood.junk) {
    await nextTurn()
    if (socket.writable) socket.write(junk)
  }
  await wait(UNREAD_MS)
  if (flood.ends === 'reset') socket.resetAndDestroy()
  else socket.end()
  if (flood.isRead) {
    closeTimer = setTimeout(() => {
      fault ??= 'a flood that was read to its end is not closed'
      socket.destroy()
    }, CLOSE_MS)
    await closed
    clearTimeout(closeTimer)
  } else {
    socket.destroy()
    await closed
  }
  return fault
}
