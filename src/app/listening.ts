/** Opening the port, and closing it so that nobody is cut off who need not be. */
import type { AddressInfo } from 'node:net'
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
 * Connections that the system holds until we take them, where it allows so many (`net.core.somaxconn`). Node asks for
 * 511; what comes beyond, as 2,000 phones at once after a restart do, is dropped, and TCP tries again after 1, 3, 7 s.
 */
const BACKLOG = 4_096
const POLL_MS = 25
const CURES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'a PORT that is free',
  EACCES: 'a PORT above 1023, or this user the right to open it (CAP_NET_BIND_SERVICE)',
}
/** Of a name that is unknown, and an address that no machine has. One that this machine lacks may come with its network. */
const IMPOSSIBLE: readonly unknown[] = ['ENOTFOUND', 'EINVAL']
const NAME_CURE = 'an address or a name of this machine'

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

/** Descriptors that are no connections of clients, at most. */
function ownFiles(config: Config): number {
  return config.databasePoolMax + config.fcmMaxInFlight + config.apkMaxDownloads + MAX_UPLOADS
}

/** The port cannot be had; the message says what to do. It may be free again soon, so a restart may mend it. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
}

/** Resolves with the origin, such as `http://127.0.0.1:8080`; rejects with ListenError, or ConfigError where no restart helps. */
export function listen({ server }: Listener, port: number, host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const refused = (error: Error) => reject(listenFailure(error))
    server.once('error', refused)
    server.listen(port, host, BACKLOG, () => {
      server.off('error', refused)
      const address = server.address() as AddressInfo // a TCP server that listens
      const name = address.family === 'IPv6' ? `[${address.address}]` : address.address
      resolve(`http://${name}:${address.port}`)
    })
  })
}

function listenFailure(error: Error): Error {
  const code = errorCode(error)
  if (IMPOSSIBLE.includes(code)) {
    return new ConfigError([`HOST: ${error.message}; give ${NAME_CURE}`])
  }
  return new ListenError(
    `${error.message}. Give ${CURES[code ?? ''] ?? `a HOST that is ${NAME_CURE}`}.`,
  )
}

/**
 * Accepts no more, lets requests in flight end within the deadline (not after `hurry`), answers 503 to what is left, then closes
 * every connection: one that never sent a byte, or stopped half-way, would stay open for ever (nodejs/node
 * #63452). Resolves when every request has its line, at most `endingsMs` later.
 */
export async function stopListening(
  listener: Listener,
  deadlineMs: number,
  endingsMs: number,
  hurry: AbortSignal,
): Promise<void> {
  const closed = new Promise<void>((resolve) => listener.server.close(() => resolve()))
  if (!(await emptied(listener, deadlineMs, hurry))) {
    listener.refuseOpen()
    await sleep(POLL_MS)
  }
  listener.server.closeAllConnections()
  const endsAtMs = performance.now() + endingsMs
  await waitAtMost(closed, endingsMs)
  // An exchange ends a turn after its connection, a download one statement later still.
  await emptied(listener, endsAtMs - performance.now())
}

/** Whether no request was open any more before the deadline, or before `hurry`. */
async function emptied(
  { server, openExchanges }: Listener,
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
