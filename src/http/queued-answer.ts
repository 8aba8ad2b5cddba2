/** Answers to pipelined requests: those that wait behind another one on their connection. */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Closes `res` with its connection: Node tells it only to the answer whose turn it is, the ones behind wait for ever. */
export function closeWithSocket(res: ServerResponse, socket: Socket): void {
  const close = () => {
    res.destroy()
    res.emit('close') // what is streamed into it stops, too
  }
  socket.setMaxListeners(0) // one for each that waits; Node bounds them by the bytes it has read
  socket.once('close', close)
  res.once('close', () => socket.off('close', close))
}
