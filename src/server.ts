/** Composition root: makes each part once, from the configuration, and hands it to those who use it. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { createApkParts, MAX_UPLOADS } from './app/apk-storage.ts'
import { backgroundFailures } from './app/background-failures.ts'
import { createDatabaseParts } from './app/database.ts'
import { createFeatures } from './app/features.ts'
import { createHeartbeats } from './app/heartbeat-group.ts'
import { type LifecycleDeps, type ServiceState, start, stop, unready } from './app/lifecycle.ts'
import { listen } from './app/listening.ts'
import { createMaintenance } from './app/maintenance.ts'
import { createSender } from './app/push.ts'
import { type OpenedDatabase, openDatabase } from './app/startup.ts'
import { readVersion } from './app/version.ts'
import type { Config } from './config/config.ts'
import { DatabaseHealth } from './db/health/health.ts'
import { prunes } from './db/retention.ts'
import { ping } from './db/schema/installation.ts'
import { AppError } from './domain/errors.ts'
import type { AtFailpoint } from './domain/failpoint.ts'
import { createUuidV7 } from './domain/ids.ts'
import { addressSet } from './http/client-address.ts'
import { connectionLimit } from './http/connection/connections.ts'
import { createListener } from './http/listener.ts'
import { Notifier } from './lib/notifier.ts'
import { singleFlight, waitAtMost } from './lib/timeouts.ts'
import { routesOf } from './routes/endpoints.ts'
import { createCommandKeys } from './security/command-keys.ts'
import { createGuards } from './security/guard.ts'
import { createSignatures, SIGNATURE_WINDOW_S } from './security/signature.ts'
import { BACKGROUND, type Line } from './telemetry/log/log.ts'
import type { Logger } from './telemetry/log/logger.ts'
import type { createMetrics } from './telemetry/metrics/metrics.ts'

/** What the process gives the service besides its configuration. */
export interface Edges {
  readonly logger: Logger
  /** Notes for people, on stderr. */
  readonly printNotice: (text: string) => void
  readonly createMetrics: typeof createMetrics
  /** Of this process, sockets among them. */
  readonly maxOpenFiles: number
  readonly failpoint?: AtFailpoint
}

export interface Service {
  /** Such as `http://127.0.0.1:8080`. */
  readonly origin: string
  /** Resolves when requests are served; rejects with StartError where they must not be. */
  readonly ready: Promise<void>
  /** Stops in order, once; `reason` goes into `service.stop`. Aborting `hurry` skips every wait. The logger stays open. */
  close(reason: string, hurry: AbortSignal): Promise<void>
}

/** Listens as soon as it can; `ready` tells when the database was prepared. */
export async function startServer(config: Config, edges: Edges): Promise<Service> {
  const startedAtMs = performance.now()
  const opened = await openDatabase(config, edges.printNotice)
  try {
    return await compose(config, edges, opened, startedAtMs)
  } catch (error) {
    await opened.close()
    throw error
  }
}

async function compose(
  config: Config,
  edges: Edges,
  opened: OpenedDatabase,
  startedAtMs: number,
): Promise<Service> {
  const nowMs = () => performance.now()
  const now = () => new Date()
  const newId = createUuidV7(Date.now)
  const version = readVersion()
  const instance = `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`
  const { logger, failpoint } = edges
  const background = (line: Line) => logger.write(line, BACKGROUND)
  const closing = new AbortController()
  const health = new DatabaseHealth(background, nowMs)
  const state: ServiceState = { instanceId: null, isPrepared: false }
  const { verifyServer, stores, watch } = await createDatabaseParts(config, {
    url: opened.url,
    onOutcome: health.observe,
    instance,
    failpoint,
    log: background,
    printNotice: edges.printNotice,
    nowMs,
  })
  const heartbeats = createHeartbeats({ store: stores.storeHeartbeats, failpoint, nowMs })
  const commandChanges = new Notifier()
  const commandChanged = (requestId: string) => commandChanges.notify(requestId)
  const reportFailure = backgroundFailures({ log: logger, health, nowMs })
  const pingOnce = singleFlight(() => ping(stores.database, health.needsWrite))
  const maintenance = createMaintenance({
    partitions: stores.partitions,
    queue: stores.queue,
    prunes: prunes(stores.background, { ...config, signatureS: 3 * SIGNATURE_WINDOW_S }),
    log: logger,
    reportFailure,
    nowMs,
    probe: async () => (health.isDown ? pingOnce() : undefined),
    watch,
    commandChanged,
  })
  const metrics = edges.createMetrics({
    actions: config.commandActions,
    statusMode: config.metricsStatus,
    version,
    gauges: {
      connectionsOpen: () => listener.connections.open,
      connectionsRefused: () => listener.connections.refused,
      connectionsEvicted: () => listener.connections.evicted,
      logLinesDropped: () => logger.stats().linesDropped,
      logRingBytes: () => logger.stats().fillBytes,
      heartbeatQueueDepth: () => heartbeats.queued,
      ...stores.gauges,
      dbSyncStandbys: () => watch.syncStandbys,
      commandsWaiting: () => maintenance.commandsWaiting,
    },
  })
  const commandKeys = createCommandKeys(config.hmacSecrets)
  const sender = createSender(config, {
    outbox: stores.queue,
    commandKey: commandKeys.find,
    log: logger,
    newId,
    random: Math.random,
    now,
    nowMs,
    observeLatency: (latencyMs, action) => metrics.fcmDispatchLatency(action).observe(latencyMs),
    commandChanged,
    reportFailure: (error) => reportFailure('dispatch', error),
    failpoint,
  })

  const guards = createGuards({
    adminTokens: config.adminTokens,
    hmacSecrets: config.hmacSecrets,
    authenticateDevice: stores.deviceTokens.authenticate,
    enrollmentTokens: stores.tokens,
    hasDevices: singleFlight(stores.devices.exist),
  })
  const signatures = createSignatures({
    adminSecret: config.adminHmacSecret,
    requireSignedResults: config.requireSignedResults,
    remember: stores.signatures.remember,
    now,
  })
  const apkParts = await createApkParts(config, {
    readStored: stores.apks.readChunks,
    log: background,
  })

  const features = createFeatures({
    config,
    version,
    instance,
    newId,
    now,
    nowMs,
    stores,
    heartbeats,
    commandChanges,
    commandKeys,
    signatures,
    sender,
    apkParts,
    metrics,
    instanceId: () => state.instanceId,
    unready: () =>
      unready(state, closing.signal, {
        trouble: () => health.trouble,
        msSinceResponse: () => stores.database.msSinceResponse,
        isBusy: () => stores.database.waiting > 0,
        ping: pingOnce,
      }),
  })
  const isTrustedProxy = addressSet(config.trustedProxies)
  const isPlaintextOk = addressSet(config.plaintextOkCidrs)
  const listener = createListener({
    routes: routesOf(features),
    guards,
    verifyAdmin: signatures.verifyAdmin,
    metrics,
    log: logger,
    newId,
    nowMs,
    random: Math.random,
    closing: closing.signal,
    httpsRule: config.requireHttps ? { isTrustedProxy, isPlaintextOk } : null,
    isTrustedProxy,
    failpoint,
    unavailable: () =>
      state.isPrepared
        ? undefined
        : new AppError('db_unavailable', 'The service is starting. Try again shortly.'),
    maxConnections: connectionLimit(edges.maxOpenFiles, ownFiles(config)),
  })
  const origin = await listen(listener, config.port, config.host)

  const life: LifecycleDeps = {
    config,
    version,
    startedAtMs,
    state,
    closing,
    log: background,
    flushLog: logger.flush,
    databaseUrl: opened.url,
    dialer: stores.dialer,
    verifyServer,
    database: stores.database,
    secrets: stores.secrets,
    observe: health.report,
    trouble: () => health.trouble,
    printNotice: edges.printNotice,
    listener,
    sender,
    maintenance,
    heartbeats,
    failpoint,
    async closeRest(deadlineMs, hurry) {
      await waitAtMost(stores.close(deadlineMs), deadlineMs, hurry)
      metrics.close()
      await opened.close()
    },
  }
  const ready = start(life)
  ready.catch(() => {}) // for a caller that only closes
  let stopping: Promise<void> | undefined

  return {
    origin,
    ready,
    close(reason, hurry) {
      stopping ??= stop(life, reason, hurry)
      return stopping
    },
  }
}

/** Descriptors that are no connections of clients, at most. */
function ownFiles(config: Config): number {
  return config.databasePoolMax + config.fcmMaxInFlight + config.apkMaxDownloads + MAX_UPLOADS
}
