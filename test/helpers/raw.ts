/** Bytes on a socket: requests that fetch would never send, and the answers exactly as they come; an error among them must be a problem. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Test } from 'tap'
import { StrictReader } from '../../testkit/http/strict-reader.ts'
import { mustBeProblem } from './contract.ts'

export interface RawResponse {
  readonly status: number
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
  /** Parsed JSON; undefined where the answer is none. */
  // biome-ignore lint/suspicious/noExplicitAny: a test asserts on it
  readonly body: any
  /** X-Request-ID. */
  readonly requestId: string
}

export class RawConnection {
  readonly answers: RawResponse[] = []
  readonly #socket: Socket
  readonly #reader = new StrictReader()
  readonly #waiting = new Set<() => void>()
  #isClosed = false

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (bytes: Buffer) => this.#take(bytes))
    socket.on('error', () => {}) // a reset is also a close
    socket.on('close', () => {
      this.#isClosed = true
      this.#wake()
    })
  }

  write(bytes: string | Uint8Array): void {
    this.#socket.write(bytes)
  }

  /** Sends its end behind what was written, and reads on. */
  end(): void {
    this.#socket.end()
  }

  /** Takes no answer before `resume`, as far as the system's buffers go. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Leaves by a reset: unlike an end, nobody can take it for a client that reads on. */
  reset(): void {
    this.#socket.resetAndDestroy()
  }

  /** Leaves at once, without a farewell. */
  destroy(): void {
    this.#socket.destroy()
  }

  /** The answer number `count` (from 1) of this connection, informational ones included. */
  async answer(count = 1): Promise<RawResponse> {
    await this.#until(() => this.answers.length >= count, `answer ${count}`)
    const response = this.answers[count - 1]
    if (response === undefined) throw new Error(`answer ${count} did not come before the close`)
    mustBeProblem({ ...response, header: (name) => response.headers[name] })
    return response
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Resolves when the server has closed the connection. */
  closed(): Promise<void> {
    return this.#until(() => this.#isClosed, 'the close')
  }

  #until(holds: () => boolean, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(look)
        reject(new Error(`${what} did not come; so far: ${JSON.stringify(this.answers)}`))
      }, 20_000)
      const look = () => {
        if (!holds() && !this.#isClosed) return
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }

  #wake(): void {
    for (const look of this.#waiting) look()
  }

  #take(bytes: Buffer): void {
    this.#reader.push(bytes)
    for (;;) {
      const response = this.#reader.next(false)
      if (response === undefined) return
      const headers = Object.fromEntries(response.headers)
      this.answers.push({
        status: response.status,
        headers,
        text: response.body,
        body: /json/.test(headers['content-type'] ?? '') ? JSON.parse(response.body) : undefined,
        requestId: headers['x-request-id'] ?? '',
      })
      this.#wake()
    }
  }
}

/** Closed at the end of `t`. With `allowHalfOpen` it can still send when the server has ended. */
export async function openRaw(
  t: Test,
  origin: string,
  options: { readonly allowHalfOpen?: boolean } = {},
): Promise<RawConnection> {
  const { hostname, port } = new URL(origin)
  const socket = connect({ ...options, port: Number(port), host: hostname })
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  return new RawConnection(socket)
}

/** Writes `bytes` on a connection of its own and gives the first answer. */
export async function sendRaw(
  t: Test,
  origin: string,
  bytes: string | Uint8Array,
): Promise<RawResponse> {
  const connection = await openRaw(t, origin)
  connection.write(bytes)
  return connection.answer()
}

/** A request head with the lines given, `Host` unless one of them is `Host`, and its end. */
export function head(requestLine: string, ...lines: readonly string[]): string {
  const host = lines.some((line) => /^host:/i.test(line)) ? [] : ['Host: test']
  return [requestLine, ...host, ...lines, '', ''].join('\r\n')
}
