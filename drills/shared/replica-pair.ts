/** Two replicas on one database, behind a balancer that knows which one is ready; each can be killed. */
import { createSend, type Send } from '../../testkit/http/client.ts'
import { freePort } from '../../testkit/listen.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'

export interface ReplicaPair {
  /** Sends each request to a random ready replica. */
  readonly send: Send
  /** Of both; they stay the same over their lives. */
  readonly origins: readonly string[]
  /** Kills a random ready replica, once there is one; it restarts on its port. Resolves when it is dead. */
  kill(): Promise<void>
  /** SIGTERM to both; returns their exit codes. */
  stop(): Promise<readonly (number | null)[]>
  /** Unexpected exits and responses 500 so far. */
  faults(): readonly string[]
}

interface Seat {
  readonly origin: string
  readonly send: Send
  life: Replica
  isReady: boolean
}

/** Resolves when both are ready. */
export async function startReplicaPair(
  settings: Readonly<Record<string, string>>,
  random: () => number,
): Promise<ReplicaPair> {
  const faults: string[] = []
  const lives: Replica[] = []
  const expected = new Set<Replica>()

  function start(port: number): Replica {
    const life = startReplica({ settings, port })
    lives.push(life)
    life.ended.then(({ code, signal }) => {
      if (!expected.has(life)) faults.push(`ended with ${signal ?? code}: ${life.notes()}`)
    }, fail)
    return life
  }
  const fail = (error: unknown) => void faults.push(String(error))

  async function take(): Promise<Seat> {
    const life = start(await freePort()) // one that is still free when it restarts
    const origin = await life.ready
    return { origin, send: createSend(origin), life, isReady: true }
  }

  /** A random ready one; any if none is ready. */
  function pick(): Seat {
    const ready = seats.filter(({ isReady }) => isReady)
    const from = ready.length > 0 ? ready : seats
    const seat = from[Math.floor(random() * from.length)]
    if (seat === undefined) throw new Error('no replica')
    return seat
  }

  const seats: Seat[] = [await take()] // the first one migrates
  seats.push(await take())

  return {
    send: (request) => pick().send(request),
    origins: seats.map(({ origin }) => origin),
    async kill() {
      await Promise.any(seats.map(({ life }) => life.ready))
      const seat = pick()
      seat.isReady = false
      expected.add(seat.life)
      seat.life.signal('SIGKILL')
      await seat.life.ended
      const life = start(Number(new URL(seat.origin).port))
      seat.life = life
      life.ready.then(() => {
        seat.isReady = true
      }, fail)
    },
    async stop() {
      return Promise.all(
        seats.map(async ({ life }) => {
          await life.ready.catch(() => {})
          expected.add(life)
          return (await life.stop()).code
        }),
      )
    },
    faults: () => [...faults, ...lives.flatMap(({ faultLines }) => faultLines)],
  }
}
