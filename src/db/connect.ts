/**
 * The only place that makes a connection to PostgreSQL: which server a URL means is decided here, and nowhere above.
 *
 * Tries the hosts in their order, as libpq does, and the addresses of a name in the order of the lookup. The next try
 * begins when one fails, or when the last one has been silent for STAGGER_MS: a host that is frozen or cut off must not
 * hold up the others, and a slow one must not lose its login. While one of several hosts is silent, those that failed
 * are tried again every AGAIN_MS, since one of them may be promoted meanwhile. The first server that takes writes wins.
 * One that has lost something is only used where there is no other.
 */
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import type pg from 'pg'
import { errorCode, errorText } from '../core/error-text.ts'
import type { ServerConfig } from './database-url.ts'
import { ReadOnlyServerError, ServerClient } from './server-client.ts'
import { SessionError } from './session-check.ts'
import { connectFailure, sqlstate } from './sqlstate.ts'

/** What a connection is asked for besides its URL. */
export interface ConnectOptions
  extends Omit<
    pg.ClientConfig,
    'connectionString' | 'host' | 'port' | 'user' | 'password' | 'database' | 'ssl'
  > {
  /** Takes a standby as well. */
  readonly mayBeReadOnly?: boolean
  /** Checks each server that takes writes; where it throws, the next one is tried. */
  readonly verify?: (client: ServerClient) => Promise<void>
}

type Try = (signal: AbortSignal) => Promise<ServerClient>

/** As in RFC 8305. */
const STAGGER_MS = 250
const AGAIN_MS = 1_000
/** Of one name; further ones are left out. */
const MAX_ADDRESSES = 16

/**
 * One attempt. Resolves with a connection to a server that takes writes, which the caller closes; rejects with an error
 * that sqlstate.ts knows. `signal` ends the attempt: its reason is the error.
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
      throw isOneOfMany ? named(error, server) : error
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
      // What a standby knows may be old, and it takes no writes.
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

/** A directory of sockets and an address stand for themselves. */
async function addressesOf(host: string, signal: AbortSignal): Promise<readonly string[]> {
  if (host.startsWith('/') || isIP(host) !== 0) return [host]
  const found = await orAborted(lookup(host, { all: true, verbatim: true }), signal)
  return found.slice(0, MAX_ADDRESSES).map(({ address }) => address)
}

/** A look-up cannot be ended; it is left to itself. */
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

/** The first that succeeds; the others are ended. */
async function firstOf(tries: readonly Try[], signal: AbortSignal): Promise<ServerClient> {
  signal.throwIfAborted()
  const [only] = tries
  if (only !== undefined && tries.length === 1) return only(signal)
  const over = new AbortController()
  const stop = () => over.abort(signal.reason)
  signal.addEventListener('abort', stop)
  const timers = new Set<NodeJS.Timeout>()
  /** Has lost something; used if no other try is left. */
  let spare: ServerClient | undefined
  try {
    return await new Promise<ServerClient>((resolve, reject) => {
      over.signal.addEventListener('abort', () => reject(over.signal.reason))
      const faults = new Map<Try, unknown>()
      let begun = 0
      let pending = 0
      const after = (ms: number, work: () => void) => {
        const timer = setTimeout(() => {
          timers.delete(timer)
          work()
        }, ms)
        timers.add(timer)
      }
      const win = (client: ServerClient) => {
        if (client === spare) spare = undefined
        resolve(client)
        over.abort()
      }
      const made = (client: ServerClient) => {
        if (over.signal.aborted) void client.end()
        else if (client.rewound === undefined) win(client)
        else if (spare === undefined) spare = client
        else void client.end()
      }
      const ended = () => {
        pending -= 1
        begin(begun)
        if (pending > 0 || over.signal.aborted) return
        if (spare === undefined) reject(worstOf([...faults.values()]))
        else win(spare)
      }
      function run(each: Try): void {
        pending += 1
        const failed = (error: unknown) => {
          faults.set(each, error)
          if (!over.signal.aborted) after(AGAIN_MS, () => run(each))
        }
        void each(over.signal).then(made, failed).then(ended)
      }
      /** Begins the next one, unless that has begun since. */
      function begin(number: number): void {
        const next = tries[number]
        if (next === undefined || number !== begun || over.signal.aborted) return
        begun += 1
        after(STAGGER_MS, () => begin(number + 1))
        run(next)
      }
      begin(0)
    })
  } finally {
    signal.removeEventListener('abort', stop)
    over.abort()
    void spare?.end()
    for (const timer of timers) clearTimeout(timer)
  }
}

/** With several hosts the message names the one that failed. */
function named(error: unknown, { host, port }: ServerConfig): unknown {
  if (error instanceof SessionError) return error
  const failure = connectFailure(error)
  return withCode(`${host}:${port}: ${failure.message}`, failure)
}

/** All their messages, with the code of the one that tells most. */
function worstOf(faults: readonly unknown[]): unknown {
  const most = Math.max(...faults.map(weight))
  const worst = faults.find((fault) => weight(fault) === most)
  if (worst instanceof SessionError || faults.length === 1) return worst
  return withCode([...new Set(faults.map(errorText))].join('; '), worst)
}

/** A server that takes writes and cannot be relied on, one that lets nobody in, a standby; then what is no server. */
function weight(fault: unknown): number {
  if (fault instanceof SessionError) return 3
  const state = sqlstate(connectFailure(fault)) ?? ''
  if (state === '25006') return 1
  return state === '' || state.startsWith('08') ? 0 : 2
}

function withCode(message: string, cause: unknown): Error {
  return Object.assign(new Error(message, { cause }), { code: errorCode(cause) })
}
