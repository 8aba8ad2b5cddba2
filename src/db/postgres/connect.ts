/**
 * Makes every connection to PostgreSQL and decides which server a URL leads to.
 *
 * Tries the hosts in order, as libpq does, and the addresses of a name in the order of the lookup. The next attempt
 * starts when one fails, or after STAGGER_MS of silence: a frozen host must not delay the others, and a slow one must
 * not lose its login. While one of several hosts is silent, failed ones are retried every AGAIN_MS, since one may be
 * promoted meanwhile. The first server that accepts writes wins. One that has lost data is used only if no other is
 * found within SPARE_MS.
 */
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import type pg from 'pg'
import { errorCode, errorText } from '../../lib/error-text.ts'
import type { ServerConfig } from './database-url.ts'
import { ReadOnlyServerError, ServerClient } from './server-client.ts'
import { SessionError } from './session-check.ts'
import { connectFailure, isNotListening, sqlstate } from './sqlstate.ts'

/** Options of a connection in addition to its URL. */
export interface ConnectOptions
  extends Omit<
    pg.ClientConfig,
    'connectionString' | 'host' | 'port' | 'user' | 'password' | 'database' | 'ssl'
  > {
  /** Accepts a standby too. */
  readonly mayBeReadOnly?: boolean
  /** Checks each server that accepts writes. If it throws, the next one is tried. */
  readonly verify?: (client: ServerClient) => Promise<void>
}

type Try = (signal: AbortSignal) => Promise<ServerClient>

/** As in RFC 8305. */
const STAGGER_MS = 250
const AGAIN_MS = 1_000
/** Then a server that lost data serves reads, although another host is silent. */
const SPARE_MS = 2_000
/** Addresses tried per name. */
const MAX_ADDRESSES = 8

/**
 * Resolves with a connection to a server that accepts writes, which the caller closes. Rejects with an error that
 * sqlstate.ts classifies. Aborting `signal` ends the attempt with its reason.
 */
export async function connect(
  servers: readonly ServerConfig[],
  options: ConnectOptions,
  signal: AbortSignal,
): Promise<ServerClient> {
  try {
    const isOneOfMany = servers.length > 1
    return await firstOf(
      servers.map((server) => toServer(server, options, isOneOfMany)),
      signal,
    )
  } catch (error) {
    throw connectFailure(signal.aborted ? signal.reason : error)
  }
}

function toServer(server: ServerConfig, options: ConnectOptions, isOneOfMany: boolean): Try {
  return async (signal) => {
    try {
      const addresses = await addressesOf(server.host, signal)
      const tries = addresses.map((host) => toAddress(server, host, options))
      return await firstOf(tries, signal)
    } catch (error) {
      throw isOneOfMany ? withServerName(error, server) : error
    }
  }
}

function toAddress(
  server: ServerConfig,
  host: string,
  { mayBeReadOnly = false, verify, ...options }: ConnectOptions,
): Try {
  return async (signal) => {
    const client = new ServerClient({ ...server, host, ...options }, server)
    const giveUp = () => client.connection.stream.destroy(signal.reason)
    signal.addEventListener('abort', giveUp)
    try {
      await client.connect()
      // A standby's data may be old, and it accepts no writes.
      if (!mayBeReadOnly && client.isReadOnly) {
        throw new ReadOnlyServerError(client.readOnlyReasons)
      }
      await verify?.(client)
      return client
    } catch (error) {
      client.connection.stream.destroy()
      throw error
    } finally {
      signal.removeEventListener('abort', giveUp)
    }
  }
}

/** A socket directory or an IP address is returned as it is. */
async function addressesOf(host: string, signal: AbortSignal): Promise<readonly string[]> {
  if (host.startsWith('/') || isIP(host) !== 0) return [host]
  const found = await orAborted(lookup(host, { all: true, verbatim: true }), signal)
  return found.slice(0, MAX_ADDRESSES).map(({ address }) => address)
}

/** A DNS lookup cannot be cancelled; it finishes unobserved. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  let stop = () => {}
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason)
    signal.addEventListener('abort', stop)
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Resolves with the first success and ends the others. */
async function firstOf(tries: readonly Try[], signal: AbortSignal): Promise<ServerClient> {
  signal.throwIfAborted()
  const [only] = tries
  return only !== undefined && tries.length === 1 ? only(signal) : new Race(tries).run(signal)
}

class Race {
  readonly #tries: readonly Try[]
  readonly #over = new AbortController()
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #faults = new Map<Try, unknown>()
  #begun = 0
  #pending = 0
  /** A connection to a server that has lost data. */
  #spare: ServerClient | undefined
  #resolve: (client: ServerClient) => void = () => {}
  #reject: (error: unknown) => void = () => {}

  constructor(tries: readonly Try[]) {
    this.#tries = tries
  }

  async run(signal: AbortSignal): Promise<ServerClient> {
    const stop = () => {
      this.#reject(signal.reason)
      this.#over.abort(signal.reason)
    }
    signal.addEventListener('abort', stop)
    try {
      return await new Promise<ServerClient>((resolve, reject) => {
        this.#resolve = resolve
        this.#reject = reject
        this.#begin(0)
      })
    } finally {
      signal.removeEventListener('abort', stop)
      this.#over.abort()
      for (const timer of this.#timers) clearTimeout(timer)
      void this.#spare?.end()
    }
  }

  /** Starts the next attempt, unless it has started already. */
  #begin(number: number): void {
    const next = this.#tries[number]
    if (next === undefined || number !== this.#begun || this.#over.signal.aborted) return
    this.#begun += 1
    this.#after(STAGGER_MS, () => this.#begin(number + 1))
    void this.#try(next)
  }

  async #try(each: Try): Promise<void> {
    this.#pending += 1
    try {
      this.#made(each, await each(this.#over.signal))
    } catch (error) {
      this.#failed(each, error)
    }
    this.#pending -= 1
    this.#begin(this.#begun)
    if (this.#pending > 0 || this.#over.signal.aborted) return
    if (this.#spare === undefined) this.#reject(worstOf([...this.#faults.values()]))
    else this.#win(this.#spare)
  }

  #made(each: Try, client: ServerClient): void {
    const isOver = this.#over.signal.aborted
    if (client.rewound === undefined && !isOver) {
      this.#win(client)
      return
    }
    if (this.#spare !== undefined || isOver) {
      void client.end()
      return
    }
    this.#spare = client
    this.#after(SPARE_MS, () => {
      if (this.#spare === client) this.#win(client)
    })
    client.once('end', () => {
      if (this.#spare !== client) return
      this.#spare = undefined
      this.#failed(each, new Error('Connection terminated'))
    })
  }

  #failed(each: Try, error: unknown): void {
    this.#faults.set(each, error)
    if (!this.#over.signal.aborted) this.#after(AGAIN_MS, () => void this.#try(each))
  }

  #win(client: ServerClient): void {
    if (client === this.#spare) this.#spare = undefined
    this.#resolve(client)
    this.#over.abort()
  }

  #after(ms: number, work: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      work()
    }, ms)
    this.#timers.add(timer)
  }
}

/** Adds the host to the message if there are several. */
function withServerName(error: unknown, { host, port }: ServerConfig): unknown {
  if (error instanceof SessionError) return error
  const failure = connectFailure(error)
  return withCode(`${host}:${port}: ${failure.message}`, failure)
}

/** All messages, with the code of the most telling error. */
function worstOf(faults: readonly unknown[]): unknown {
  const max = Math.max(...faults.map(weight))
  const worst = faults.find((fault) => weight(fault) === max)
  if (worst instanceof SessionError || faults.length === 1) return worst
  return withCode([...new Set(faults.map(errorText))].join('; '), worst)
}

/** Ranks failures: unusable settings, lost data, a refused login, a standby, a broken connection, no server. */
function weight(fault: unknown): number {
  if (fault instanceof SessionError) return 5
  const state = sqlstate(connectFailure(fault)) ?? ''
  if (state === '08R00') return 4
  if (state === '25006') return 2
  if (state !== '' && !state.startsWith('08')) return 3
  return isNotListening(fault) ? 0 : 1
}

function withCode(message: string, cause: unknown): Error {
  return Object.assign(new Error(message, { cause }), { code: errorCode(cause) })
}
