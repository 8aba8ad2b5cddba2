/**
 * The connections of one pool and the callers that wait for one. A connection counts from the request for it until
 * the server has closed it, so also while it is being made and after it was abandoned (dialer.ts bounds that).
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
  /** Whether statements failed recently, so that connections may be held for long. */
  readonly isTroubled: () => boolean
  /** An attempt failed. */
  readonly onFailed: (error: unknown) => void
  /** An open connection was lost. */
  readonly onLost: (error: unknown, client: ServerClient) => void
}

interface Waiter {
  settle(outcome: { readonly client: ServerClient } | { readonly error: unknown }): void
}

interface Idle {
  readonly client: ServerClient
  readonly timer: NodeJS.Timeout
}

/** With a shorter timeout nearly every heartbeat of a quiet fleet opens a connection and prepares its statement. */
const IDLE_TIMEOUT_MS = 300_000
const LIFETIME_MS = 900_000
/** A request may wait twice and then for its statement; in total it must be answered within 2 s. */
const TROUBLED_WAIT_MS = 300

export class Connections {
  readonly #options: ConnectionsOptions
  readonly #open = new Set<ServerClient>()
  /** A subset of #open, most recently used last. */
  #idle: Idle[] = []
  /** A subset of #open: closing, but not yet closed by the server. */
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

  /** In use, being made or abandoned. */
  get inUse(): number {
    return this.#open.size + this.#dialing - this.#idle.length
  }

  /** Whether a connection may become free. */
  get isConnected(): boolean {
    return this.#open.size > this.#leaving.size
  }

  /** Rejects with OwnWaitError after the longest wait, or with the error as soon as no connection can be made. */
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
          this.#waiting.remove(node)
          if ('client' in outcome) resolve(outcome.client)
          else reject(outcome.error)
        },
      }
      const node = this.#waiting.add(waiter)
    })
  }

  /** `isSound`: it can be reused. */
  giveBack(client: ServerClient, isSound: boolean): void {
    const isOld = performance.now() - client.connectedAtMs >= LIFETIME_MS
    if (isSound && !isOld && this.#onEmpty === undefined) this.#offer(client)
    else this.#hangUp(client)
  }

  /** Closes immediately the connections for which `isOld` holds; their statements fail. */
  drop(isOld: (client: ServerClient) => boolean): void {
    for (const client of [...this.#open].filter(isOld)) {
      this.#unidle(client)
      this.#leaving.add(client)
      client.isLost = true
      client.connection.stream.destroy()
    }
  }

  /** Resolves when connections in use have been returned and all are closed. */
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
      const dialing = dialer.dial({
        attempt,
        isWanted: () =>
          this.#onEmpty === undefined && (this.#waiting.size > 0 || !this.isConnected),
        silentAfterMs: waitMs,
        onSilent: (error) => {
          // While other connections serve callers, a slow attempt does not matter.
          if (!this.isConnected) onSilent(error)
        },
      })
      const client = await dialing.finally(() => {
        this.#dialing -= 1
      })
      if (client !== undefined) this.#made(client)
    } catch (error) {
      onFailed(error)
      if (!this.isConnected) this.#refuseAll(error)
    }
    this.#settle()
  }

  #made(client: ServerClient): void {
    this.#open.add(client)
    client.on('error', (error) => {
      if (this.#leaving.has(client)) return
      this.#options.onLost(error, client)
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

/** PostgreSQL's connection_does_not_exist. */
function closedError(): Error {
  return Object.assign(new Error('the pool is closed'), { code: '08003' })
}
