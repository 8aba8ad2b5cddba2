/**
 * The connections of one pool, and those who wait for one. A connection counts from the moment when it is wanted until
 * the server has closed it: also while it is made, and after it was given up (dialer.ts says for how long at most).
 */
import { LinkedList } from '../../lib/linked-list.ts'
import type { Dialer, DialRequest } from './dialer.ts'
import type { ServerClient } from './server-client.ts'
import { OwnWaitError } from './sqlstate.ts'

export interface ConnectionsOptions extends Pick<DialRequest, 'attempt' | 'onSilent'> {
  readonly dialer: Dialer
  readonly max: number
  /** Longest wait for a connection. */
  readonly waitMs: number
  /** Whether statements failed lately: those who have a connection may hold it for long. */
  readonly isTroubled: () => boolean
  /** An attempt failed. */
  readonly onFailed: (error: unknown) => void
  /** A connection that was made is lost. */
  readonly onLost: (error: unknown) => void
}

interface Waiter {
  settle(outcome: { readonly client: ServerClient } | { readonly error: unknown }): void
}

interface Idle {
  readonly client: ServerClient
  readonly timer: NodeJS.Timeout
}

/** Shorter ones would have nearly every heartbeat of a quiet fleet open a connection, and prepare its statement anew. */
const IDLE_TIMEOUT_MS = 300_000
const LIFETIME_MS = 900_000
/** A request may wait twice, then for its statement: in all it must be answered within 2 s. */
const TROUBLED_WAIT_MS = 300

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #open = new Set<ServerClient>()
  /** Of those open; the one used last stands last. */
  #idle: Idle[] = []
  /** Of those open: the server has not closed them yet. */
  readonly #leaving = new Set<ServerClient>()
  readonly #waiting = new LinkedList<Waiter>()
  #dialing = 0
  #onEmpty: (() => void) | undefined

  constructor(options: ConnectionsOptions) {
    this.#options = options
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /** At work, being made or given up. */
  get inUse(): number {
    return this.#open.size + this.#dialing - this.#idle.length
  }

  /** Whether there is one that may come free. */
  get isConnected(): boolean {
    return this.#open.size > this.#leaving.size
  }

  /** Rejects with OwnWaitError after the longest wait; with the reason as soon as it is known that none can be made. */
  take(): Promise<ServerClient> {
    const { waitMs } = this.#options
    if (this.#onEmpty !== undefined) return Promise.reject(closedError())
    const idle = this.#idle.pop()
    if (idle !== undefined) {
      clearTimeout(idle.timer)
      return Promise.resolve(idle.client)
    }
    this.#dial(this.#waiting.size + 1)
    return new Promise((resolve, reject) => {
      const refuse = () => waiter.settle({ error: new OwnWaitError() })
      const soonMs = Math.min(waitMs, TROUBLED_WAIT_MS)
      let timer = setTimeout(() => {
        if (soonMs === waitMs || (this.#open.size > 0 && this.#options.isTroubled()))
          return refuse()
        timer = setTimeout(refuse, waitMs - soonMs)
      }, soonMs)
      const waiter: Waiter = {
        settle: (outcome) => {
          clearTimeout(timer)
          this.#waiting.remove(place)
          if ('client' in outcome) resolve(outcome.client)
          else reject(outcome.error)
        },
      }
      const place = this.#waiting.add(waiter)
    })
  }

  /** From who took it. `isSound`: it can be used again. */
  giveBack(client: ServerClient, isSound: boolean): void {
    const isOld = performance.now() - client.connectedAtMs >= LIFETIME_MS
    if (isSound && !isOld && this.#onEmpty === undefined) this.#offer(client)
    else this.#hangUp(client)
  }

  /** Closes at once those for which `isOld` holds; their statements fail. */
  drop(isOld: (client: ServerClient) => boolean): void {
    for (const client of [...this.#open].filter(isOld)) {
      this.#unidle(client)
      this.#leaving.add(client)
      client.isLost = true
      client.connection.stream.destroy()
    }
  }

  /** Resolves when those at work have come back and all are closed. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#onEmpty = resolve
      for (const { client } of [...this.#idle]) this.#hangUp(client)
      this.#refuseAll(closedError())
      this.#settle()
    })
  }

  #offer(client: ServerClient): void {
    const { first } = this.#waiting
    if (client.isLost) this.#hangUp(client)
    else if (first !== undefined) first.settle({ client })
    else this.#keep(client)
  }

  #keep(client: ServerClient): void {
    const leftMs = client.connectedAtMs + LIFETIME_MS - performance.now()
    const timer = setTimeout(() => this.#hangUp(client), Math.min(IDLE_TIMEOUT_MS, leftMs))
    this.#idle.push({ client, timer })
  }

  #unidle(client: ServerClient): void {
    const index = this.#idle.findIndex((idle) => idle.client === client)
    if (index === -1) return
    clearTimeout(this.#idle[index]?.timer)
    this.#idle.splice(index, 1)
  }

  #hangUp(client: ServerClient): void {
    this.#unidle(client)
    if (!this.#open.has(client) || this.#leaving.has(client)) return
    this.#leaving.add(client)
    void this.#options.dialer.hangUp(client)
  }

  /** So many more are wanted. */
  #dial(wanted: number): void {
    const free = this.#options.max - this.#open.size
    while (this.#onEmpty === undefined && this.#dialing < Math.min(wanted, free)) {
      this.#dialing += 1
      void this.#dialOne()
    }
  }

  async #dialOne(): Promise<void> {
    const { dialer, attempt, onSilent, waitMs, onFailed } = this.#options
    try {
      const client = await dialer.dial({
        attempt,
        isWanted: () =>
          this.#onEmpty === undefined && (this.#waiting.size > 0 || !this.isConnected),
        silentAfterMs: waitMs,
        onSilent: (error) => {
          // Who can be served need not know that one more takes its time.
          if (!this.isConnected) onSilent(error)
        },
      })
      this.#dialing -= 1
      if (client !== undefined) this.#made(client)
    } catch (error) {
      this.#dialing -= 1
      onFailed(error)
      if (!this.isConnected) this.#refuseAll(error)
    }
    this.#settle()
  }

  #made(client: ServerClient): void {
    this.#open.add(client)
    client.on('error', (error) => {
      if (this.#leaving.has(client)) return
      this.#options.onLost(error)
      if (this.#idle.some((idle) => idle.client === client)) this.#hangUp(client)
    })
    client.once('end', () => {
      this.#unidle(client)
      this.#open.delete(client)
      this.#leaving.delete(client)
      this.#settle()
    })
    if (this.#onEmpty === undefined) this.#offer(client)
    else this.#hangUp(client)
  }

  #refuseAll(error: unknown): void {
    for (const waiter of this.#waiting) waiter.settle({ error })
  }

  #settle(): void {
    if (this.#onEmpty === undefined) this.#dial(this.#waiting.size)
    else if (this.#open.size + this.#dialing === 0) this.#onEmpty()
  }
}

/** As PostgreSQL's connection_does_not_exist. */
function closedError(): Error {
  return Object.assign(new Error('the pool is closed'), { code: '08003' })
}
