/**
 * Hostile sockets, in a process of their own, so that they cost honest clients only the machine. Slow ones send a byte
 * of a head each second, half ones half a body and nothing more, slow readers read a byte of a response each second,
 * idle ones send one request; the last two also send empty lines, which are no request. Others reset the connection
 * within a response.
 */
import { connect, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { openFiles } from './descriptors.ts'

export interface HostileWave {
  readonly port: number
  /** The service's. */
  readonly pid: number
  /** Opened at once per group, at most 1,000 a second. */
  readonly burst: number
  /** All start at once. */
  readonly groups: readonly HostileGroup[]
}

export interface HostileGroup {
  readonly name: string
  readonly count: number
  /** Sent first, in rotation. */
  readonly firsts: readonly string[]
  /** Each second; `reset`: at the first bytes of the response. */
  readonly goesOn: 'write a byte' | 'nothing' | 'read a byte' | 'write a line' | 'reset'
  /** The next burst waits while more are open. */
  readonly mostOpen?: number
}

export interface HostileReport {
  readonly outcomes: readonly HostileOutcome[]
  /** Maximum of the service's descriptors. Counting here keeps its cost out of the phones' latencies. */
  readonly peakFiles: number
}

/** One group's, once all its sockets are closed. */
export interface HostileOutcome {
  readonly name: string
  /** From the first socket to the last: this process has the lowest priority and may be late. */
  readonly openedMs: number
  /** From connect to close, ascending, ms. */
  readonly heldMs: readonly number[]
  /** By response status; `none` without one. */
  readonly byStatus: Readonly<Record<string, number>>
}

/** A flood of connections is not what is measured: each takes the service 0.16 ms to accept. */
const OPENED_PER_S = 1_000
const TICK_MS = 20
const TICKS_PER_S = 1_000 / TICK_MS
const LOOK_MS = 1_000

async function attack({ pid, groups, ...target }: HostileWave): Promise<HostileReport> {
  let peakFiles = 0
  const watch = setInterval(() => {
    peakFiles = Math.max(peakFiles, openFiles(pid))
  }, LOOK_MS)
  const outcomes = await Promise.all(groups.map((group) => attackAs(group, target)))
  clearInterval(watch)
  return { outcomes, peakFiles }
}

async function attackAs(
  group: HostileGroup,
  { port, burst }: Pick<HostileWave, 'port' | 'burst'>,
): Promise<HostileOutcome> {
  const { name, count, firsts, goesOn, mostOpen = count } = group
  const startedAtMs = performance.now()
  const heldMs: number[] = []
  const byStatus: Record<string, number> = {}
  /** With the tick at which it sends each second, independent of closed sockets. */
  const open = new Map<Socket, number>()
  const closed: Promise<void>[] = []
  const ticker = trickle(open, goesOn)
  for (let index = 0; index < count; index += burst) {
    const batch = Array.from({ length: Math.min(burst, count - index) }, async (_, nth) => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true })
      socket.on('error', () => {}) // a reset is also a close
      const gone = new Promise((resolve) => socket.once('close', resolve))
      await Promise.race([new Promise((resolve) => socket.once('connect', resolve)), gone])
      const openAtMs = performance.now()
      if (goesOn === 'read a byte') socket.pause()
      let status = 'none'
      const onData = (bytes: Buffer) => {
        status = /^HTTP\/1\.1 (\d{3})/.exec(bytes.toString('latin1', 0, 12))?.[1] ?? status
        if (goesOn === 'reset') socket.resetAndDestroy()
      }
      if (goesOn !== 'read a byte') socket.once('data', onData).resume()
      open.set(socket, (index + nth) % TICKS_PER_S)
      closed.push(
        gone.then(() => {
          open.delete(socket)
          heldMs.push(performance.now() - openAtMs)
          byStatus[status] = (byStatus[status] ?? 0) + 1
        }),
      )
      socket.write(firsts[(index + nth) % firsts.length] ?? '')
    })
    await Promise.all(batch)
    do await wait((1_000 * burst) / OPENED_PER_S)
    while (open.size > mostOpen)
  }
  const openedMs = performance.now() - startedAtMs
  await Promise.all(closed)
  clearInterval(ticker)
  return { name, openedMs, heldMs: heldMs.sort((a, b) => a - b), byStatus }
}

function trickle(
  open: ReadonlyMap<Socket, number>,
  goesOn: HostileGroup['goesOn'],
): NodeJS.Timeout {
  let tick = 0
  return setInterval(() => {
    tick += 1
    if (goesOn === 'nothing' || goesOn === 'reset') return
    for (const [socket, own] of open) {
      if (own !== tick % TICKS_PER_S) continue
      if (goesOn === 'read a byte') socket.read(1)
      socket.write(goesOn === 'write a byte' ? 'a' : '\r\n')
    }
  }, TICK_MS)
}

process.on('message', (wave: HostileWave) => {
  attack(wave).then(
    (report) => process.send?.(report),
    (error: unknown) => {
      throw error
    },
  )
})
process.once('disconnect', () => process.exit())
