/** Rows 4 to 7: clients that speak HTTP correctly and take more than their share. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { runLoad } from '../../../sim/load/load.ts'
import { jsonHeaders } from '../../../testkit/http/client.ts'
import type { AssaultReport, DownloadsAssault, IdleAssault, RequestsAssault } from './assault.ts'
import { AttackerSockets, standing } from './sockets.ts'

const RETRY_MS = 500
/** Interval between bytes of a response. */
const TRICKLE_MS = 1_000
const CONNECTIONS = 64
/** Opened at once, up to the bound; after that one by one. */
const BATCH = 20
const PAUSE_MS = 20
/** Limit for reaching the bound; the attack's duration starts there. */
const MOST_OPENING_MS = 30_000

/** A download is held from its 200 until the system has closed its connection. */
export async function holdDownloads(assault: DownloadsAssault): Promise<AssaultReport> {
  const { tokens, perToken, subnets, port, seconds } = assault
  const attacker = new AttackerSockets(port)
  const held = new Map<string, readonly Socket[]>()
  const hold = (keys: readonly string[], socket: Socket) => {
    for (const key of keys) {
      const peak = `held at once by one ${key.split(' ')[0] ?? ''}`
      let sockets = [...(held.get(key) ?? []), socket]
      if (sockets.length > (attacker.counts[peak] ?? 0)) sockets = [...standing(sockets)]
      held.set(key, sockets)
      attacker.peak(peak, sockets.length)
    }
  }
  const release = (keys: readonly string[], socket: Socket) => {
    for (const key of keys) held.set(key, held.get(key)?.filter((other) => other !== socket) ?? [])
  }
  async function download(token: string, index: number): Promise<void> {
    const subnet = index % subnets
    while (!attacker.isOver) {
      const socket = await attacker.connect(`127.1.${subnet}.${1 + Math.floor(index / subnets)}`)
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
      if (socket.destroyed) {
        await wait(RETRY_MS)
        continue
      }
      socket.write(
        `GET /v1/apk/download-latest HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      )
      const first = new Promise<Buffer | undefined>((resolve) => {
        socket.once('data', (bytes: Buffer) => {
          socket.pause()
          resolve(bytes)
        })
        void closed.then(() => resolve(undefined))
      })
      socket.resume()
      const status = /^HTTP\/1\.1 (\d+)/.exec((await first)?.toString('latin1', 0, 12) ?? '')?.[1]
      attacker.count(`answer ${status ?? 'none'}`)
      if (status === '200') {
        const keys = ['attacker', `credential ${token}`, `subnet ${subnet}`]
        hold(keys, socket)
        const trickle = setInterval(() => socket.read(1), TRICKLE_MS)
        await closed
        clearInterval(trickle)
        release(keys, socket)
      }
      socket.destroy()
      await wait(RETRY_MS)
    }
  }
  tokens.forEach((token, index) => {
    for (let nth = 0; nth < perToken; nth += 1) void download(token, index)
  })
  await wait(1_000 * seconds)
  return attacker.end()
}

/** Replaces each `*` by 43 new random characters of base64url. */
const madeUp = (text: string) => text.replaceAll('*', () => randomBytes(32).toString('base64url'))

export async function sendRequests(assault: RequestsAssault): Promise<AssaultReport> {
  const { requests, ratePerS, port, seconds } = assault
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(), 1_000 * seconds)
  const report = await runLoad({
    origin: `http://127.0.0.1:${port}`,
    ratePerS,
    connections: CONNECTIONS,
    signal: over.signal,
    next(index) {
      const request = requests[index % requests.length]
      if (request === undefined) throw new Error('an attack without requests')
      const { method, path, token, body } = request
      const headers = jsonHeaders(madeUp(token))
      const base = { id: '', method, path, headers }
      return body === undefined ? base : { ...base, body: madeUp(body) }
    },
  })
  clearTimeout(timer)
  const { due, shed, failed, byStatus } = report
  const statuses = Object.entries(byStatus).map(([status, count]) => [`answer ${status}`, count])
  return { due, shed, failed, ...Object.fromEntries(statuses) }
}

/** Each sends one request, to look like a client, then nothing. After the first close only a few more are opened. */
export async function lieIdle(assault: IdleAssault): Promise<AssaultReport> {
  const { sockets: most, addresses, port, seconds } = assault
  const attacker = new AttackerSockets(port)
  const startedAtMs = performance.now()
  let endsAtMs: number | undefined
  for (let index = 0; performance.now() < (endsAtMs ?? startedAtMs + MOST_OPENING_MS); ) {
    const isAtBound = attacker.counts['closed by the service'] !== undefined
    if (isAtBound) endsAtMs ??= performance.now() + 1_000 * seconds
    const size = attacker.open.size >= most ? 0 : isAtBound ? 1 : BATCH
    const batch = Array.from({ length: size }, async () => {
      const address = index % addresses
      index += 1
      const socket = await attacker.connect(
        `127.2.${Math.floor(address / 250)}.${1 + (address % 250)}`,
      )
      socket.resume()
      if (socket.writable) socket.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n')
    })
    await Promise.all(batch)
    await wait(PAUSE_MS)
  }
  attacker.count('open at the end', attacker.open.size)
  return attacker.end()
}
