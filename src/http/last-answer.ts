/**
 * The end of a connection behind its last answer. A close under bytes that nobody has read resets the connection, and
 * the reset may overtake the answer: what the client still sends is read a little, and forgotten.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

const LINGER_MS = 1_000
const LINGER_BYTES = 1024 * 1024
const LOOK_MS = 50

/** What is to be sent is handed over: sends the end, and closes once the client has ended too, or goes on for too long. Repeatable. */
export function closeGently(socket: Socket): void {
  if (socket.writableEnded) return
  socket.end()
  // Node's parser would make an error of a request that ends in its midst, 60 µs each; the stream closes by itself at both ends.
  socket.removeAllListeners('end')
  const endsAtMs = performance.now() + LINGER_MS
  const mostBytes = socket.bytesRead + LINGER_BYTES
  const timer = setInterval(() => {
    if (performance.now() >= endsAtMs || socket.bytesRead > mostBytes) socket.destroy()
  }, LOOK_MS)
  socket.once('close', () => clearInterval(timer))
}

/** To be called before an answer that closes the connection: a body that is not all here by then does not cost it. */
export function closeGentlyAfter(request: IncomingMessage): void {
  const { socket } = request
  const { destroySoon } = socket
  // Node calls it behind an answer with `Connection: close`.
  socket.destroySoon = () => (request.complete ? destroySoon.call(socket) : closeGently(socket))
}

/** What comes behind the last answer is no request any more. */
export function isBehindLastAnswer({ socket }: IncomingMessage): boolean {
  return socket.writableEnded
}

/** Nobody reads an answer any more: the client has left, or ended within a request. */
export function isCutOff({ code }: NodeJS.ErrnoException): boolean {
  return code === 'HPE_INVALID_EOF_STATE' || code === 'ECONNRESET'
}
