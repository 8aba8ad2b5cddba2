/**
 * Makes all connections of a process, so that they never storm a server in trouble: a fork and a login cost a slow
 * server most. It dials
 *
 *   one by one   from the start, and after a failure or a suspicion, until nobody waits for a connection; after a failure
 *                with growing pauses, unless nothing listened
 *   in bursts    otherwise, DIALS_AT_ONCE at a time
 */
import { retryDelayMs } from '../../domain/delivery/backoff.ts'
import { createSemaphore } from '../../lib/semaphore.ts'
import { cancelStatement } from './cancel.ts'
import type { ServerClient } from './server-client.ts'
import { isNotListening } from './sqlstate.ts'

export interface DialRequest {
  /** Ends when `signal` aborts. */
  readonly attempt: (signal: AbortSignal) => Promise<ServerClient>
  /** Called before the attempt; false skips it. */
  readonly isWanted: () => boolean
  /** The attempt has taken `silentAfterMs` so far and goes on. */
  readonly onSilent: (error: Error) => void
  readonly silentAfterMs: number
}

interface Queued extends DialRequest {
  readonly resolve: (client: ServerClient | undefined) => void
  readonly reject: (error: unknown) => void
}

/** While the server is healthy. */
const DIALS_AT_ONCE = 2
/** An attempt outlives the request that needed it, so that the server's work is not wasted. */
const ATTEMPT_MS = 10_000
/** After the first failure; doubles with each further one. */
const MIN_BACKOFF_MS = 100
/** Short enough to serve a request that arrives when the server is back, cheap enough for a slow server. */
const MAX_BACKOFF_MS = 400
/** How long an abandoned connection counts while its statement may still run. */
const GIVEN_UP_MS = 10_000

export class Dialer {
  #queue: Queued[] = []
  readonly #running = new Set<AbortController>()
  readonly #cancels = createSemaphore(1)
  readonly #random: () => number
  #isBurst = false
  #isClosed = false
  #failures = 0
  #nextAtMs = 0
  #timer: NodeJS.Timeout | undefined
  attempts = 0
  failedAttempts = 0
  cancels = 0
  givenUp = 0

  constructor(random: () => number = Math.random) {
    this.#random = random
  }

  /** Queues one attempt; undefined if it is no longer wanted. */
  dial(call: DialRequest): Promise<ServerClient | undefined> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...call, resolve, reject })
      this.#next()
    })
  }

  /** A connection was lost or is silent: the server may be in trouble. */
  suspectTrouble(): void {
    this.#isBurst = false
  }

  /** Ends a connection, after a cancel request for an abandoned statement. Resolves once closed, or after GIVEN_UP_MS. */
  async hangUp(client: ServerClient): Promise<void> {
    const { stream } = client.connection
    if (stream.destroyed) return
    const closed = new Promise<void>((resolve) => client.once('end', resolve))
    const timer = setTimeout(() => stream.destroy(), GIVEN_UP_MS)
    this.givenUp += 1
    try {
      // One at a time: a frozen server would get them all at once when it wakes. One that is gone must not hold up
      // the requests to its successor.
      const cancel = () => Promise.race([this.#cancel(client), closed])
      if (client.isAbandoned) await Promise.race([this.#cancels.run(cancel), closed])
      client.connection.end() // client.end() does not wait for the server
      await closed
    } finally {
      this.givenUp -= 1
      clearTimeout(timer)
    }
  }

  async #cancel(client: ServerClient): Promise<void> {
    if (client.isLost) return
    this.cancels += 1
    await cancelStatement(client)
  }

  /** Aborts all attempts; new ones fail. */
  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    for (const controller of this.#running) controller.abort(new Error('the service is stopping'))
    this.#next()
  }

  #next(): void {
    while (this.#queue.length > 0 && this.#running.size < (this.#isBurst ? DIALS_AT_ONCE : 1)) {
      const restMs = this.#nextAtMs - performance.now()
      if (restMs > 0 && !this.#isClosed) {
        clearTimeout(this.#timer)
        this.#timer = setTimeout(() => this.#next(), restMs)
        this.#timer.unref()
        return
      }
      const call = this.#queue.shift()
      if (call === undefined) return
      if (this.#isClosed || !call.isWanted()) call.resolve(undefined)
      else void this.#attempt(call)
    }
  }

  async #attempt({ attempt, silentAfterMs, onSilent, resolve, reject }: Queued): Promise<void> {
    const controller = new AbortController()
    const timers = [
      setTimeout(() => onSilent(silentError(silentAfterMs)), silentAfterMs),
      setTimeout(() => controller.abort(silentError(ATTEMPT_MS)), ATTEMPT_MS),
    ]
    this.#running.add(controller)
    this.attempts += 1
    try {
      const client = await attempt(controller.signal)
      this.#failures = 0
      this.#nextAtMs = 0
      if (this.#queue.length === 0) this.#isBurst = true
      resolve(client)
    } catch (error) {
      this.failedAttempts += 1
      this.#failures += 1
      this.#isBurst = false
      this.#nextAtMs = performance.now() + backoffMs(error, this.#failures, this.#random)
      reject(error)
    } finally {
      for (const timer of timers) clearTimeout(timer)
      this.#running.delete(controller)
      this.#next()
    }
  }
}

/** After `failures` in a row, the last of which is `error`. */
export function backoffMs(error: unknown, failures: number, random: () => number): number {
  if (isNotListening(error)) return 0
  const [baseMs, maxMs] = [MIN_BACKOFF_MS, MAX_BACKOFF_MS]
  return retryDelayMs({ failures, baseMs, maxMs, retryAfterMs: null, random })
}

/** PostgreSQL's sqlclient_unable_to_establish_sqlconnection. */
function silentError(ms: number): Error {
  const error = new Error(`no connection: it has been silent for ${ms} ms, or is cut off`)
  return Object.assign(error, { code: '08001' })
}
