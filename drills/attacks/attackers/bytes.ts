/** Rows 1, 2, 3, 12, 15 and 16: sockets that send much and read nothing, or send bytes that are not HTTP. */
import type { Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { tcpSockets } from '../../sockets/descriptors.ts'
import type { AssaultReport, BurstsAssault, JunkAssault } from './assault.ts'
import { AttackerSockets } from './sockets.ts'

const JUNK = '\x01'
/** Interval between bytes; the fast ones send one per millisecond. */
const SLOW_MS = 100
const REST_MS = 500
const REST_LOOK_MS = 100
const STUCK_BYTES = 1024 * 1024

export async function sendJunk(assault: JunkAssault): Promise<AssaultReport> {
  const { sockets: count, fast: fastCount, firsts, repeats, port, seconds } = assault
  const attacker = new AttackerSockets(port)
  const onOpen = (socket: Socket, index: number) =>
    void socket.write((firsts[index % firsts.length] ?? '').repeat(repeats))
  // The fast ones go first, alone: what the service grants to all together is little for each.
  const fast = await attacker.keep({ count: fastCount, onOpen })
  attacker.count('sockets with answers that stick', await atRest(fast, seconds))
  const slow = await attacker.keep({ count: count - fastCount, onOpen })
  const endsAtMs = performance.now() + 1_000 * seconds
  const send = (socket: Socket) => {
    if (!socket.writable) return
    socket.write(JUNK)
    attacker.count('bytes that are no HTTP')
  }
  for (let ms = 0; performance.now() < endsAtMs; ms += 1) {
    fast.forEach(send)
    slow.filter((_, index) => (ms + index) % SLOW_MS === 0).forEach(send)
    await wait(1)
  }
  return attacker.end()
}

/**
 * Waits until the system moves no bytes between these sockets and the service, or until the time is over. Returns how
 * many have much unread.
 */
async function atRest(sockets: readonly Socket[], mostS: number): Promise<number> {
  const ports = new Set(sockets.map(({ localPort = 0 }) => localPort))
  const endsAtMs = performance.now() + 1_000 * mostS
  let last = ''
  let sinceMs = performance.now()
  for (;;) {
    const queues = queuesOf(ports)
    const nowMs = performance.now()
    if (queues.join() !== last) sinceMs = nowMs
    last = queues.join()
    if (nowMs - sinceMs >= REST_MS || nowMs >= endsAtMs) {
      return queues.filter((line) => unsentBytes(line) >= STUCK_BYTES).length
    }
    await wait(REST_LOOK_MS)
  }
}

/** Queues of connections from or to these ports, both sides, as `address>sent:received` (proc(5), net/tcp). */
function queuesOf(ports: ReadonlySet<number>): readonly string[] {
  return tcpSockets()
    .filter(({ local, remote }) =>
      [local, remote].some((end) => ports.has(Number.parseInt(end.slice(-4), 16))),
    )
    .map(({ local, queues }) => `${local}>${queues}`)
    .sort()
}

const unsentBytes = (line: string) => Number.parseInt(line.split('>')[1] ?? '0', 16)

export async function sendBursts(assault: BurstsAssault): Promise<AssaultReport> {
  const { sockets: count, piece, head, burstBytes, reads, port, seconds } = assault
  const attacker = new AttackerSockets(port)
  const pieces = Math.floor(burstBytes / piece.length)
  const perBurst = head === undefined ? pieces : 1
  const burst = Buffer.from((head ?? '') + piece.repeat(pieces))
  await attacker.keep({
    count,
    onOpen(socket) {
      if (reads) void burstAgain(assault, { attacker, socket, burst, perBurst })
      else {
        socket.write(burst)
        attacker.count('requests', perBurst)
      }
    },
  })
  await wait(1_000 * seconds)
  return attacker.end()
}

interface Bursting {
  readonly attacker: AttackerSockets
  readonly socket: Socket
  readonly burst: Buffer
  readonly perBurst: number
}

/** Repeats until the socket is closed: a burst, all responses, a pause. */
async function burstAgain({ pauseMs }: BurstsAssault, on: Bursting): Promise<void> {
  const { attacker, socket, burst, perBurst } = on
  const responses = countAnswers(socket, () => attacker.count('answers'))
  while (!socket.destroyed) {
    socket.write(burst)
    attacker.count('requests', perBurst)
    await responses.next(perBurst)
    await wait(pauseMs)
  }
}

const ANSWER = Buffer.from('HTTP/1.1 ')

/** Starts to read. `next` resolves when that many more responses have begun, or at the close. */
function countAnswers(socket: Socket, onAnswer: () => void) {
  let rest: Buffer = Buffer.alloc(0)
  let left = 0
  let resolveNext = () => {}
  socket.on('data', (bytes: Buffer) => {
    const all = Buffer.concat([rest, bytes])
    for (let at = all.indexOf(ANSWER); at !== -1; at = all.indexOf(ANSWER, at + 1)) {
      onAnswer()
      left -= 1
    }
    rest = all.subarray(Math.max(0, all.length - ANSWER.length + 1))
    if (left <= 0) resolveNext()
  })
  socket.once('close', () => resolveNext())
  socket.resume()
  return {
    next(count: number): Promise<void> {
      left += count
      return new Promise((resolve) => {
        resolveNext = resolve
        if (socket.destroyed) resolve()
      })
    },
  }
}
