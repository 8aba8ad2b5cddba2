/** The seven features: what the endpoints of each use. */
import { randomBytes } from 'node:crypto'
import { commandData } from '../../domain/delivery/command-message.ts'
import { HeartbeatPace } from '../../domain/heartbeat-pace.ts'
import type { Notifier } from '../../lib/notifier.ts'
import { createSharedSemaphore } from '../../lib/semaphore.ts'
import type { Apks } from '../../routes/apks/feature.ts'
import type { Commands, Results } from '../../routes/commands/feature.ts'
import type { Devices } from '../../routes/devices/feature.ts'
import type { Features } from '../../routes/endpoints.ts'
import type { Enrollment } from '../../routes/enrollment/feature.ts'
import type { Events } from '../../routes/events/feature.ts'
import type { Jobs } from '../../routes/jobs/feature.ts'
import type { Operations } from '../../routes/operations/feature.ts'
import { createApkLimits } from '../../security/apk-limits.ts'
import type { CommandKeys } from '../../security/command-keys.ts'
import type { DeadTokens } from '../../security/dead-tokens.ts'
import { rateLimited, refuseDevice, refuseEnrollment } from '../../security/denial.ts'
import type { Signatures } from '../../security/signature.ts'
import { batchTokens, issueDeviceToken } from '../../security/tokens.ts'
import type { Metrics } from '../../telemetry/metrics/metrics.ts'
import { PROMETHEUS_CONTENT_TYPE } from '../../telemetry/metrics/prometheus.ts'
import { readOpenApi } from '../openapi.ts'
import { unready } from '../readiness.ts'
import type { ServiceContext } from '../service-context.ts'
import { StartError } from '../startup.ts'
import type { ApkParts } from './apk-storage.ts'
import type { DatabaseParts } from './database.ts'
import type { EventReaders } from './event-readers.ts'
import { HEARTBEAT_DEADLINE_MS } from './heartbeat-group.ts'
import type { Sender } from './push.ts'

export interface FeatureParts extends ServiceContext {
  readonly database: DatabaseParts
  readonly heartbeats: Devices['heartbeats']
  readonly commandChanges: Notifier
  readonly commandKeys: CommandKeys
  readonly deadTokens: DeadTokens
  readonly signatures: Signatures
  readonly sender: Sender | undefined
  readonly jobReleases: { wake(): void }
  readonly apkParts: ApkParts
  readonly eventReaders: EventReaders
  readonly metrics: Metrics
}

/** Requests that wait for a command or a job to change (`wait_ms`). */
const MAX_WAITING_REQUESTS = 128
/** Of them, those of one admin. */
const MAX_WAITING_OF_ADMIN = 32

export function createFeatures(parts: FeatureParts): Features {
  const results = createResults(parts)
  const commands = createCommands(parts, results)
  return {
    devices: createDevices(parts, results),
    enrollment: createEnrollment(parts),
    commands,
    jobs: createJobs(parts, commands),
    apks: createApks(parts),
    events: createEvents(parts),
    operations: createOperations(parts),
  }
}

function createResults(parts: FeatureParts): Results {
  const { database, signatures, commandKeys, commandChanges, metrics } = parts
  return {
    results: database.stores.results,
    pushReports: database.stores.pushReports,
    pushMetrics: metrics.push,
    resultDenial: (request, device) =>
      signatures.resultDenial(request, () => commandKeys.get(device)),
    commandChanged: (requestId) => commandChanges.notify(requestId),
  }
}

function createDevices(parts: FeatureParts, results: Results): Devices {
  const { config, heartbeats, commandKeys, sender, metrics, now, nowMs } = parts
  const { stores } = parts.database
  return {
    ...results,
    heartbeats,
    mailbox: stores.mailbox,
    devices: stores.devices,
    labels: stores.deviceLabels,
    history: stores.history,
    eraser: stores.eraser,
    authenticateDevice: stores.deviceTokens.authenticate,
    refuseDevice,
    sign(deviceId, command) {
      const hmacKey = commandKeys.find({ ...command, deviceId })
      if (hmacKey === undefined) return undefined
      return commandData({ ...command, deviceId, ts: now(), hmacKey })
    },
    wakeDispatcher: () => sender?.dispatcher.wake(),
    heartbeatDeadlineMs: HEARTBEAT_DEADLINE_MS,
    pace: new HeartbeatPace(config.heartbeatIntervalS, config.deviceOfflineS),
    ingested: metrics.heartbeatsIngested,
    dedupHits: metrics.heartbeatsDedupHits,
    offlineAfterS: config.deviceOfflineS,
    isPushOn: sender !== undefined,
    instance: parts.instance,
    nowMs,
  }
}

function createEnrollment(parts: FeatureParts): Enrollment {
  const { config, commandKeys, state, newId, now } = parts
  const { stores } = parts.database
  const [signingSecret] = config.hmacSecrets
  if (signingSecret === undefined) throw new StartError('HMAC_SECRET is missing.')
  return {
    register: stores.register,
    tokens: stores.tokens,
    judgeForLines: stores.judgeForLines,
    deadTokens: parts.deadTokens,
    refuseEnrollment,
    issueDeviceToken: () => issueDeviceToken(signingSecret, randomBytes),
    batchTokens: batchTokens(signingSecret, config.hmacSecrets, randomBytes),
    hmacSecretId: signingSecret.id,
    commandKey: commandKeys.get,
    heartbeatIntervalS: config.heartbeatIntervalS,
    maxPerHour: config.rateLimitTokensPerHour,
    rateLimited: (reached) => rateLimited(reached, null),
    instanceId: () => state.instanceId,
    newId,
    now,
  }
}

function createCommands(parts: FeatureParts, results: Results): Commands {
  const { config, database, sender, commandChanges, instance, nowMs } = parts
  return {
    ...results,
    commands: database.stores.commands,
    actions: config.commandActions,
    offlineAfterS: config.deviceOfflineS,
    isPushOn: sender !== undefined,
    senderTrouble: () => sender?.dispatcher.trouble,
    wakeDispatcher: () => sender?.dispatcher.wake(),
    waitForChange: (id, timeoutMs, signal) => commandChanges.wait(id, timeoutMs, signal),
    tryAcquireWait: createSharedSemaphore(MAX_WAITING_REQUESTS, MAX_WAITING_OF_ADMIN).tryAcquire,
    instance,
    nowMs,
  }
}

function createJobs(parts: FeatureParts, commands: Commands): Jobs {
  const { database, jobReleases, now } = parts
  const { jobs, jobsForAdmins } = database.stores
  return { ...commands, jobs, jobsForAdmins, wakeReleases: jobReleases.wake, now }
}

function createApks(parts: FeatureParts): Apks {
  const { config, apkParts, metrics, newId, now, nowMs } = parts
  const { stores } = parts.database
  return {
    ...apkParts,
    ...createApkLimits(config, nowMs),
    apks: { ...stores.apks, publish: stores.publishing.publish },
    apksForAdmins: stores.apksForAdmins,
    downloads: stores.downloads,
    apkDownload: metrics.apkDownload,
    defaultBuildType: config.apkDefaultBuildType,
    defaultPackage: config.apkDefaultPackage || undefined,
    isSignatureRequired: config.isApkSignatureRequired,
    newId,
    now,
  }
}

function createEvents({ config, database, eventReaders, nowMs }: FeatureParts): Events {
  const { events, settledEvents } = database.stores
  return {
    feed: events,
    current: () => settledEvents.current(),
    settled: () => settledEvents.settled,
    behindS: () => settledEvents.behindS,
    waitForMore: (than, timeoutMs, signal) => settledEvents.wait(than, timeoutMs, signal),
    tryAcquireReader: eventReaders.tryAcquire,
    streamDropped: eventReaders.dropped,
    keepAliveMs: config.eventsKeepAliveS * 1_000,
    nowMs,
  }
}

function createOperations(parts: FeatureParts): Operations {
  const { config, version, state, closing, metrics } = parts
  const { stores, health, ping } = parts.database
  return {
    audit: stores.audit,
    instanceId: () => state.instanceId,
    version,
    openApi: readOpenApi(),
    unready: () =>
      unready(state, closing.signal, {
        trouble: () => health.trouble,
        msSinceResponse: () => stores.database.msSinceResponse,
        isBusy: () => stores.database.waiting > 0,
        ping,
      }),
    isMetricsEnabled: config.isMetricsEnabled,
    renderMetrics: metrics.render,
    metricsContentType: PROMETHEUS_CONTENT_TYPE,
  }
}
