/** Composition root: makes each part once, from the configuration, and hands it to those who use it. */
import { type LifecycleDeps, start, stop } from './app/lifecycle.ts'
import { createServiceListener, listen } from './app/listening.ts'
import { createApkParts } from './app/parts/apk-storage.ts'
import { backgroundFailures } from './app/parts/background-failures.ts'
import { createDatabaseParts } from './app/parts/database.ts'
import { createEventReaders } from './app/parts/event-readers.ts'
import { createFeatures } from './app/parts/features.ts'
import { createHeartbeats } from './app/parts/heartbeat-group.ts'
import { createJobReleases } from './app/parts/job-releases.ts'
import { createMaintenance } from './app/parts/maintenance.ts'
import { createServiceMetrics } from './app/parts/metrics.ts'
import { createSender } from './app/parts/push.ts'
import { createSecurity } from './app/parts/security.ts'
import { storedBuilds } from './app/parts/stored-builds.ts'
import { createContext, type Edges, type ServiceContext } from './app/service-context.ts'
import { type OpenedDatabase, openDatabase } from './app/startup.ts'
import type { Config } from './config/config.ts'
import { Notifier } from './lib/notifier.ts'
import { waitAtMost } from './lib/timeouts.ts'
import { routesOf } from './routes/endpoints.ts'

export interface Service {
  /** Such as `http://127.0.0.1:8080`. */
  readonly origin: string
  /** Resolves when requests are served; rejects with StartError if the service must not serve. */
  readonly ready: Promise<void>
  /** Stops in order, once; `reason` goes into `service.stop`. Aborting `hurry` skips every wait. The logger stays open. */
  close(reason: string, hurry: AbortSignal): Promise<void>
}

/** Listens as soon as it can; `ready` resolves once the database is prepared. */
export async function startServer(config: Config, edges: Edges): Promise<Service> {
  const context = createContext(config, edges)
  const opened = await openDatabase(config, edges.printNotice)
  try {
    return await compose(context, opened)
  } catch (error) {
    await opened.close()
    throw error
  }
}

async function compose(context: ServiceContext, opened: OpenedDatabase): Promise<Service> {
  const { config, logger, nowMs, failpoint } = context
  const database = await createDatabaseParts(context, opened.url)
  const { stores, health, watch, ping, prunes } = database
  const commandChanges = new Notifier()
  const commandChanged = (requestId: string) => commandChanges.notify(requestId)
  const heartbeats = createHeartbeats({ store: stores.storeHeartbeats, failpoint, nowMs })
  const reportFailure = backgroundFailures({ log: logger, health, nowMs })
  const maintenance = createMaintenance({
    readBuilds: storedBuilds({ apks: stores.apks, log: logger }),
    partitions: stores.partitions,
    outbox: stores.outbox,
    sweepOffline: stores.sweepOffline,
    prunes,
    log: logger,
    reportFailure,
    nowMs,
    probe: async () => (health.isDown ? ping() : undefined),
    watch,
    commandChanged,
  })
  const eventReaders = createEventReaders()
  const metrics = createServiceMetrics(context, {
    connections: () => listener.connections,
    database,
    heartbeats,
    maintenance,
    jobsOpen: () => jobReleases.jobsOpen,
    eventReaders,
  })
  const security = createSecurity(config, stores, context.now)
  const sender = createSender(context, {
    outbox: stores.outbox,
    commandKey: security.commandKeys.find,
    metrics,
    commandChanged,
    reportFailure: (error) => reportFailure('dispatch', error),
  })
  const jobReleases = createJobReleases({ stores, sender, logger, commandChanged, reportFailure })
  const apkParts = await createApkParts(context, stores.apks.readChunks)
  const features = createFeatures({
    ...context,
    ...security,
    database,
    heartbeats,
    commandChanges,
    sender,
    jobReleases,
    apkParts,
    eventReaders,
    metrics,
  })
  const listener = createServiceListener(context, {
    routes: routesOf(features),
    guards: security.guards,
    verifyAdmin: security.signatures.verifyAdmin,
    metrics,
  })
  const origin = await listen(listener, config.port, config.host)

  return runService(origin, {
    ...context,
    databaseUrl: opened.url,
    ...database.forStart,
    trouble: () => health.trouble,
    listener,
    sender,
    maintenance,
    jobReleases,
    heartbeats,
    flushLog: logger.flush,
    async closeRest(deadlineMs, hurry) {
      await waitAtMost(stores.close(deadlineMs), deadlineMs, hurry)
      metrics.close()
      await opened.close()
    },
  })
}

/** Starts the service, and stops it once. */
function runService(origin: string, parts: LifecycleDeps): Service {
  const ready = start(parts)
  ready.catch(() => {}) // for a caller that only closes
  let stopping: Promise<void> | undefined
  return {
    origin,
    ready,
    close(reason, hurry) {
      stopping ??= stop(parts, reason, hurry)
      return stopping
    },
  }
}
