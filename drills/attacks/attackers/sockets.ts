/** An attacker's sockets: opened in batches, reopened when the service closes them, counted. */
import { connect, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { TCP_ESTABLISHED, tcpSockets } from '../../sockets/descriptors.ts'

/** Opened at once; the others wait a moment. A flood of connections is not part of any row. */
const BATCH = 20
const BATCH_MS = 10
/** Interval for reopening closed sockets. */
const REOPEN_MS = 1_000

export interface KeptSockets {
  readonly count: number
  readonly addressOf?: (index: number) => string
  /** Called for each socket that connects, at first and again. */
  readonly onOpen: (socket: Socket, index: number) => void
}

export class AttackerSockets {
  readonly counts: Record<string, number> = {}
  readonly #port: number
  readonly #open = new Set<Socket>()
  #isOver = false

  constructor(port: number) {
    this.#port = port
  }

  get open(): ReadonlySet<Socket> {
    return this.#open
  }

  get isOver(): boolean {
    return this.#isOver
  }

  count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by
  }

  /** Keeps the maximum. */
  peak(what: string, value: number): void {
    this.counts[what] = Math.max(this.counts[what] ?? 0, value)
  }

  /** Resolves once it is connected or closed. Nothing is read before it is resumed. */
  async connect(localAddress = '127.0.0.1'): Promise<Socket> {
    const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true, localAddress })
    socket.pause()
    socket.on('error', () => {}) // a reset is also a close
    const closed = new Promise<void>((resolve) => {
      socket.once('close', () => {
        if (this.#open.delete(socket)) this.count('closed by the service')
        resolve()
      })
    })
    const connected = new Promise<void>((resolve) => {
      socket.once('connect', () => {
        this.#open.add(socket)
        this.count('connected')
        this.peak('open at once', this.#open.size)
        resolve()
      })
    })
    await Promise.race([connected, closed])
    return socket
  }

  /** Resolves once all were opened. Closed ones are reopened until the end. */
  async keep(kept: KeptSockets): Promise<readonly Socket[]> {
    const sockets: Socket[] = []
    const open = async () => {
      for (let first = 0; first < kept.count && !this.#isOver; first += BATCH) {
        const batch = Array.from(
          { length: Math.min(BATCH, kept.count - first) },
          async (_, nth) => {
            const index = first + nth
            const known = sockets[index]
            if (known !== undefined && !known.destroyed) return
            const socket = await this.connect(kept.addressOf?.(index))
            sockets[index] = socket
            if (!socket.destroyed) kept.onOpen(socket, index)
          },
        )
        await Promise.all(batch)
        await wait(BATCH_MS)
      }
    }
    const reopen = async () => {
      while (!this.#isOver) {
        await wait(REOPEN_MS)
        await open()
      }
    }
    await open()
    void reopen()
    return sockets
  }

  /** Closes all at once and opens no more. */
  end(): Record<string, number> {
    this.#isOver = true
    const sockets = [...this.#open]
    this.#open.clear()
    for (const socket of sockets) socket.destroy()
    return this.counts
  }
}

/** Filters out those that the system has closed: a paused socket notices no reset. */
export function standing(sockets: Iterable<Socket>): readonly Socket[] {
  const established = new Set(
    tcpSockets().flatMap(({ local, state }) => (state === TCP_ESTABLISHED ? [local] : [])),
  )
  return [...sockets].filter((socket) => established.has(localText(socket)))
}

/** The format of net/tcp: the octets of the address backwards, and the port, in hexadecimal. */
function localText({ localAddress = '', localPort = 0 }: Socket): string {
  const octets = localAddress.split('.').reverse().map(Number)
  const address = octets.map((octet) => octet.toString(16).padStart(2, '0')).join('')
  return `${address}:${localPort.toString(16).padStart(4, '0')}`.toUpperCase()
}
