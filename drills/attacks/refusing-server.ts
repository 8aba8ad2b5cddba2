/** Refuses everything at once. Attackers that are sent here cost honest phones only what they take of the machine. */
import { createServer } from 'node:net'
import { listen } from '../../testkit/listen.ts'

const REFUSAL = 'HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n'

export interface RefusingServer {
  readonly port: number
  close(): void
}

/** Takes each packet for a request. */
export async function startRefusingServer(): Promise<RefusingServer> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('data', () => socket.write(REFUSAL))
    socket.on('error', () => socket.destroy())
  })
  return { port: await listen(server), close: () => void server.close() }
}
