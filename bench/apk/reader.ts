/** The client of bench:apk: reads responses into one buffer and only counts, to cost as little as possible. */
import { setMaxListeners } from 'node:events'
import { connect, type Socket } from 'node:net'

export interface Target {
  readonly host: string
  readonly port: number
  /** A whole GET; the response has a content-length and keeps the connection open. */
  readonly request: string
}

const BUFFER_BYTES = 1024 * 1024
const HEAD_END = '\r\n\r\n'

/** Downloads repeatedly on `connections` connections until `signal`; returns the number of body bytes. */
export async function readAll(
  target: Target,
  connections: number,
  signal: AbortSignal,
): Promise<number> {
  setMaxListeners(0, signal) // each connection waits on it
  const counts = await Promise.all(
    Array.from({ length: connections }, () => readOne(target, signal)),
  )
  return counts.reduce((sum, count) => sum + count, 0)
}

function readOne({ host, port, request }: Target, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    let bodyBytes = 0
    let leftBytes = 0
    const callback = (length: number, buffer: Uint8Array): boolean => {
      let body = length
      if (leftBytes === 0) {
        const head = bodyLengthOf(buffer, length)
        if (head === undefined) {
          socket.destroy(new Error(`no answer: ${Buffer.from(buffer.subarray(0, 200))}`))
          return false
        }
        leftBytes = head.sizeBytes
        body -= head.headBytes
      }
      leftBytes -= body
      bodyBytes += body
      if (leftBytes === 0) socket.write(request)
      return true
    }
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)
    const socket = connect({ host, port, noDelay: true, onread: { buffer, callback } })
    const stop = () => socket.destroy()
    signal.addEventListener('abort', stop)
    socket.write(request)
    socket.on('error', reject)
    socket.on('close', () => {
      signal.removeEventListener('abort', stop)
      if (signal.aborted) resolve(bodyBytes)
      else reject(new Error('the server closed the connection'))
    })
  })
}

/** Of a 200 whose head came in one piece, as small heads do. */
function bodyLengthOf(buffer: Uint8Array, length: number) {
  const text = Buffer.from(buffer.buffer, buffer.byteOffset, Math.min(length, 8192)).toString(
    'latin1',
  )
  const end = text.indexOf(HEAD_END)
  const sizeBytes = Number(/^content-length: (\d+)$/im.exec(text.slice(0, end))?.[1] ?? 0)
  if (end === -1 || sizeBytes === 0 || !text.startsWith('HTTP/1.1 200 ')) return undefined
  return { sizeBytes, headBytes: end + HEAD_END.length }
}

/** Connections that read a first piece and then nothing, as phones out of reach; `end` closes them. */
export async function openSlowReaders(target: Target, count: number) {
  const sockets: Socket[] = []
  for (let opened = 0; opened < count; opened++) {
    const socket = connect({ host: target.host, port: target.port })
    sockets.push(socket)
    socket.on('error', () => {})
    socket.write(target.request)
    await new Promise<void>((resolve) => {
      socket.once('data', () => {
        socket.pause()
        resolve()
      })
    })
  }
  return {
    end() {
      for (const socket of sockets) socket.destroy()
    },
  }
}
