/** Makes the listener, opens the port, and closes it without cutting off requests that still can end. */
import type { AddressInfo } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { type Config, ConfigError } from '../config/config.ts'
import { AppError } from '../domain/errors.ts'
import { addressSet } from '../http/client-address.ts'
import { connectionLimit } from '../http/connection/connections.ts'
import { createListener, type Listener, type ListenerDeps } from '../http/listener.ts'
import { errorCode } from '../lib/error-text.ts'
import { sleep, waitAtMost } from '../lib/timeouts.ts'
import { MAX_UPLOADS } from './parts/apk-storage.ts'
import type { ServiceContext } from './service-context.ts'

/**
 * Connections that the system queues until we accept them; `net.core.somaxconn` limits it. With Node's default of 511, the
 * system drops some of 2,000 phones that connect at once after a restart, and TCP retries after 1, 3, 7 s.
 */
const BACKLOG = 4_096
/** A stopping replica accepts queued connections for this share of its requests' time; a full backlog takes up to 4 s. */
const ACCEPTING_SHARE = 1 / 2
const POLL_MS = 25
const ADVICE: Readonly<Record<string, string>> = {
  EADDRINUSE: 'a PORT that is free',
  EACCES: 'a PORT above 1023, or this user the right to open it (CAP_NET_BIND_SERVICE)',
}
/** An unknown name, or an address that no machine can have. An address that is only missing may appear with its network. */
const IMPOSSIBLE: readonly unknown[] = ['ENOTFOUND', 'EINVAL']
const HOST_ADVICE = 'an address or a name of this machine'

export function createServiceListener(
  context: ServiceContext,
  parts: Pick<ListenerDeps, 'routes' | 'guards' | 'verifyAdmin' | 'metrics'>,
): Listener {
  const { config, logger, newId, nowMs, failpoint, closing, state } = context
  const isTrustedProxy = addressSet(config.trustedProxies)
  const isPlaintextOk = addressSet(config.plaintextOkCidrs)
  const starting = () =>
    new AppError('db_unavailable', 'The service is starting. Try again shortly.')
  return createListener({
    ...parts,
    log: logger,
    newId,
    nowMs,
    random: Math.random,
    failpoint,
    closing: closing.signal,
    httpsRule: config.requireHttps ? { isTrustedProxy, isPlaintextOk } : null,
    isTrustedProxy,
    unavailable: () => (state.isPrepared ? undefined : starting()),
    maxConnections: connectionLimit(context.maxOpenFiles, ownFiles(config)),
  })
}

/** The most descriptors that anything but connections of clients may hold. */
function ownFiles(config: Config): number {
  return config.databasePoolMax + config.fcmMaxInFlight + config.apkMaxDownloads + MAX_UPLOADS
}

/** The port cannot be opened; the message says what to do. A restart may help: the port may be free by then. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
}

/** Resolves with the origin, such as `http://127.0.0.1:8080`; rejects with ListenError, or with ConfigError if a restart cannot help. */
export function listen({ server }: Listener, port: number, host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const refused = (error: Error) => reject(listenFailure(error))
    server.once('error', refused)
    server.listen(port, host, BACKLOG, () => {
      server.off('error', refused)
      const address = server.address() as AddressInfo // always an AddressInfo for a listening TCP server
      const name = address.family === 'IPv6' ? `[${address.address}]` : address.address
      resolve(`http://${name}:${address.port}`)
    })
  })
}

function listenFailure(error: Error): Error {
  const code = errorCode(error)
  if (IMPOSSIBLE.includes(code)) {
    return new ConfigError([`HOST: ${error.message}; give ${HOST_ADVICE}`])
  }
  return new ListenError(
    `${error.message}. Give ${ADVICE[code ?? ''] ?? `a HOST that is ${HOST_ADVICE}`}.`,
  )
}

/**
 * Accepts what has connected, stops accepting, lets requests in flight end until the deadline (or `hurry`), responds 503
 * to the rest, then closes every connection: one that never sent a byte, or stopped half-way, would never close
 * (nodejs/node #63452). Resolves once every request has its line, at most `endingsMs` later.
 */
export async function stopListening(
  listener: Pick<Listener, 'server' | 'openExchanges' | 'refuseOpen'>,
  deadlineMs: number,
  endingsMs: number,
  hurry: AbortSignal,
): Promise<void> {
  const deadlineAtMs = performance.now() + deadlineMs
  await acceptQueued(listener, deadlineMs * ACCEPTING_SHARE, hurry)
  const closed = new Promise<void>((resolve) => listener.server.close(() => resolve()))
  await sleep(POLL_MS, hurry) // the request of a connection that was just accepted
  if (!(await emptied(listener, deadlineAtMs - performance.now(), hurry))) {
    listener.refuseOpen()
    await sleep(POLL_MS)
  }
  listener.server.closeAllConnections()
  const endsAtMs = performance.now() + endingsMs
  await waitAtMost(closed, endingsMs)
  // An exchange ends one turn after its connection, a download one statement later.
  await emptied(listener, endsAtMs - performance.now())
}

/**
 * Closing the port resets the connections that the system has queued. libuv accepts one in each turn of the event loop, so
 * this waits for a turn without one. Between the ends of two turns lies a whole one, wherever the first began. Where
 * connections come faster than they are accepted there is no such turn, so it waits at most `mostMs`, or until `hurry`.
 */
async function acceptQueued(
  { server }: Pick<Listener, 'server'>,
  mostMs: number,
  hurry: AbortSignal,
): Promise<void> {
  const endsAtMs = performance.now() + mostMs
  let isQuiet = false
  const accepted = () => {
    isQuiet = false
  }
  server.on('connection', accepted)
  while (!isQuiet && performance.now() < endsAtMs && !hurry.aborted) {
    isQuiet = true
    await turn()
    await turn()
  }
  server.off('connection', accepted)
}

/** Resolves with whether the last open request ended before the deadline and before `hurry`. */
async function emptied(
  { server, openExchanges }: Pick<Listener, 'server' | 'openExchanges'>,
  deadlineMs: number,
  hurry?: AbortSignal,
): Promise<boolean> {
  const deadlineAtMs = performance.now() + deadlineMs
  while (openExchanges() > 0 && performance.now() < deadlineAtMs && hurry?.aborted !== true) {
    server.closeIdleConnections()
    await sleep(POLL_MS, hurry)
  }
  return openExchanges() === 0
}
