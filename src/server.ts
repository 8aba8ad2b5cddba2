/** Composition root: makes each part once, from the configuration, and hands it to those who use it. */
import { randomBytes, randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { createSlots } from './apk/slots.ts'
import { createApkParts, MAX_UPLOADS } from './apk-parts.ts'
import { backgroundFailures } from './background-failures.ts'
import type { Config } from './config.ts'
import { commandData, commandKey } from './core/command-message.ts'
import { AppError } from './core/errors.ts'
import type { AtFailpoint } from './core/failpoint.ts'
import { createUuidV7 } from './core/ids.ts'
import { KeyedSignal } from './core/keyed-signal.ts'
import { Pace } from './core/pace.ts'
import { joined, within } from './core/wait.ts'
import { createDatabaseParts } from './database-parts.ts'
import { DatabaseHealth } from './db/health.ts'
import { ping } from './db/installation.ts'
import { prunes } from './db/retention.ts'
import { createHeartbeats, HEARTBEAT_DEADLINE_MS } from './heartbeats.ts'
import { addressSet } from './http/client-address.ts'
import { connectionLimit } from './http/connections.ts'
import { createListener } from './http/listener.ts'
import { type LifecycleDeps, type ServiceState, start, stop, unready } from './lifecycle.ts'
import { listen } from './listening.ts'
import { createMaintenance } from './maintenance.ts'
import { routeTable } from './routes/index.ts'
import { createApkLimits } from './security/apk-limits.ts'
import { rateLimited, refuseDevice, refuseEnrollment } from './security/denial.ts'
import { createGuards } from './security/guard.ts'
import { createSignatures, SIGNATURE_WINDOW_S } from './security/signature.ts'
import { batchTokens, issueDeviceToken } from './security/tokens.ts'
import { createSender } from './sender.ts'
import { type OpenedDatabase, openDatabase, StartError } from './startup.ts'
import { BACKGROUND, type Line } from './telemetry/events.ts'
import type { Logger } from './telemetry/logger.ts'
import type { createMetrics } from './telemetry/metrics.ts'
import { PROMETHEUS_CONTENT_TYPE } from './telemetry/prometheus.ts'
import { readVersion } from './version.ts'

/** What the process gives the service besides its configuration. */
export interface Edges {
  readonly logger: Logger
  /** Notes for people, on stderr. */
  readonly say: (text: string) => void
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

/** Requests that wait for news of a command (`wait_ms`); each looks four times a second. */
const MAX_WAITING_REQUESTS = 128

/** Listens as soon as it can; `ready` tells when the database was prepared. */
export async function startServer(config: Config, edges: Edges): Promise<Service> {
  const startedAtMs = performance.now()
  const opened = await openDatabase(config, edges.say)
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
    say: edges.say,
    nowMs,
  })
  const heartbeats = createHeartbeats({ store: stores.storeHeartbeats, failpoint, nowMs })
  const changed = new KeyedSignal()
  const onChanged = (requestId: string) => changed.notify(requestId)
  const tellFailure = backgroundFailures({ log: logger, health, nowMs })
  const pingOnce = joined(() => ping(stores.database, health.needsWrite))
  const maintenance = createMaintenance({
    partitions: stores.partitions,
    queue: stores.queue,
    prunes: prunes(stores.background, {
      ...config.retention,
      signatureS: 3 * SIGNATURE_WINDOW_S,
    }),
    log: logger,
    tellFailure,
    nowMs,
    probe: async () => (health.isDown ? pingOnce() : undefined),
    watch,
    onEnded: onChanged,
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
  const secrets = new Map(config.hmacSecrets.map(({ id, secret }) => [id, secret]))
  /** undefined: a secret that the configuration lacks; start-up refuses that, unless another replica has it. */
  const keyOf = (device: { hmacSecretId: string; deviceId: string; enrollmentNo: number }) => {
    const secret = secrets.get(device.hmacSecretId)
    return secret && commandKey(secret, device.deviceId, device.enrollmentNo)
  }
  const knownKeyOf = (device: Parameters<typeof keyOf>[0]) => {
    const key = keyOf(device)
    if (key === undefined) throw new Error(`HMAC secret ${device.hmacSecretId} is not configured`)
    return key
  }
  const sender = createSender(config, {
    outbox: stores.queue,
    commandKey: keyOf,
    log: logger,
    newId,
    random: Math.random,
    now,
    nowMs,
    observeLatency: (latencyMs, action) => metrics.fcmDispatchLatency(action).observe(latencyMs),
    onRecorded: onChanged,
    tellFailure: (error) => tellFailure('dispatch', error),
    failpoint,
  })

  const guards = createGuards({
    adminTokens: config.adminTokens,
    hmacSecrets: config.hmacSecrets,
    authenticateDevice: stores.deviceTokens.authenticate,
    enrollmentTokens: stores.tokens,
    hasDevices: joined(stores.devices.exist),
  })
  const signatures = createSignatures({
    adminSecret: config.adminHmacSecret,
    requireSignedResults: config.requireSignedResults,
    remember: stores.signatures.remember,
    now,
  })
  const [signingSecret] = config.hmacSecrets
  if (signingSecret === undefined) throw new StartError('HMAC_SECRET is missing.')
  const apkParts = await createApkParts(config, {
    readStored: stores.apks.readChunks,
    log: background,
  })

  const routes = routeTable({
    ...stores,
    ...apkParts,
    apks: { ...stores.apks, publish: stores.publishing.publish },
    heartbeats,
    refuseDevice,
    refuseEnrollment,
    rateLimited: (reached) => rateLimited(reached, null),
    authenticateDevice: stores.deviceTokens.authenticate,
    resultDenial: (request, device) => signatures.resultDenial(request, () => knownKeyOf(device)),
    issueDeviceToken: () => issueDeviceToken(signingSecret, randomBytes),
    batchTokens: batchTokens(signingSecret, config.hmacSecrets, randomBytes),
    hmacSecretId: signingSecret.id,
    commandKey: knownKeyOf,
    sign(deviceId, command) {
      const hmacKey = keyOf({ ...command, deviceId })
      if (hmacKey === undefined) return undefined
      return commandData({ ...command, deviceId, ts: now(), hmacKey })
    },
    heartbeatDeadlineMs: HEARTBEAT_DEADLINE_MS,
    newId,
    now,
    nowMs,
    instance,
    instanceId: () => state.instanceId,
    version,
    heartbeatIntervalS: config.heartbeatIntervalS,
    pace: new Pace(config.heartbeatIntervalS, config.deviceOfflineS),
    ingested: metrics.heartbeatsIngested,
    dedupHits: metrics.heartbeatsDedupHits,
    onEnded: onChanged,
    wakeDispatcher: () => sender?.dispatcher.wake(),
    isPushOn: sender !== undefined,
    senderTrouble: () => sender?.dispatcher.trouble,
    actions: config.commandActions,
    offlineAfterS: config.deviceOfflineS,
    news: (requestId, timeoutMs, signal) => changed.wait(requestId, timeoutMs, signal),
    takeWaitPlace: createSlots(MAX_WAITING_REQUESTS).take,
    maxPerHour: config.rateLimitTokensPerHour,
    apkDownload: metrics.apkDownload,
    defaultBuildType: config.apkDefaultBuildType,
    ...createApkLimits(config, nowMs),
    isMetricsEnabled: config.isMetricsEnabled,
    metricsContentType: PROMETHEUS_CONTENT_TYPE,
    render: metrics.render,
    unready: () =>
      unready(state, closing.signal, {
        trouble: () => health.trouble,
        answeredMsAgo: () => stores.database.answeredMsAgo,
        isBusy: () => stores.database.waiting > 0,
        ping: pingOnce,
      }),
  })
  const isTrustedProxy = addressSet(config.trustedProxies)
  const isPlaintextOk = addressSet(config.plaintextOkCidrs)
  const listener = createListener({
    routes,
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
    say: edges.say,
    listener,
    sender,
    maintenance,
    heartbeats,
    failpoint,
    async closeRest(deadlineMs, hurry) {
      await within(stores.close(deadlineMs), deadlineMs, hurry)
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
