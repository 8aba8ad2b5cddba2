/**
 * Sockets that only want to be held: a process of their own, so that they cost the honest clients of the drill nothing
 * but the machine. Slow ones send a byte of a head each second, half ones half a body and then nothing, slow readers
 * take a byte of an answer each second, idle ones ask once; the latter two send empty lines, which are no request. Or they
 * reset the connection in the midst of an answer.
 */
import { connect, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { openFiles } from './descriptors.ts'

export interface HostileWave {
  readonly port: number
  /** The service's. */
  readonly pid: number
  /** Opened at once by each group; 1,000 a second, if there are fewer. */
  readonly burst: number
  /** Sent at once by each of so many. */
  readonly groups: readonly HostileGroup[]
}

export interface HostileGroup {
  readonly name: string
  readonly count: number
  /** By turns. */
  readonly firsts: readonly string[]
  /** Each second; `reset`: at the first bytes of the answer. */
  readonly goesOn: 'write a byte' | 'nothing' | 'read a byte' | 'write a line' | 'reset'
}

export interface HostileReport {
  readonly outcomes: readonly HostileOutcome[]
  /** Descriptors of the service, at most. A look takes so long that it would be seen in the phones' latencies, were it theirs. */
  readonly peakFiles: number
}

/** Of one group, once all its sockets are closed. */
export interface HostileOutcome {
  readonly name: string
  /** From the first socket to the last: they compute only where nobody else wants to, and may be late. */
  readonly openedMs: number
  /** From connect to close, ascending, ms. */
  readonly heldMs: readonly number[]
  /** Status of the answer; `none` where none came. */
  readonly byStatus: Readonly<Record<string, number>>
}

/** So that being held is measured, not a flood of connections: each takes the service 0.16 ms to accept. */
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
  const { name, count, firsts, goesOn } = group
  const startedAtMs = performance.now()
  const heldMs: number[] = []
  const byStatus: Record<string, number> = {}
  /** With the tick of each second at which it says something: its own, however many have closed meanwhile. */
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
    await wait((1_000 * burst) / OPENED_PER_S)
  }
  const openedMs = performance.now() - startedAtMs
  await Promise.all(closed)
  clearInterval(ticker)
  return { name, openedMs, heldMs: heldMs.sort((a, b) => a - b), byStatus }
}

/** Each socket once a second. */
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
