/**
 * Builds every store on its pool:
 *
 *   pool         work                                                     why
 *   hot          the group statement of heartbeats                        no admin request delays it
 *   slow         publishing APKs, moving partitions, labels of a          their commits may take seconds
 *                selection
 *   forUntagged  looking up enrollment tokens without our tag             anybody can invent them; a flood of them must not
 *                                                                         take connections from others
 *   main         everything else, also the rest of a heartbeat            background work and reads of admins have a share each
 *
 * createReads has all that admins' GETs read, except the bytes of an APK and the newest settled event, which one statement
 * reads for all; test/security/admin-reads.test.ts calls each of these routes. A change reads its response on main: a durable
 * change must not be refused because admins read much.
 */

import { joinReads } from '../lib/timeouts.ts'
import { apkStore } from './apks/apks.ts'
import { downloadStore } from './apks/downloads.ts'
import { auditStore } from './audit.ts'
import { commandStore } from './commands/commands.ts'
import { mailbox } from './commands/mailbox.ts'
import { commandOutbox } from './commands/outbox.ts'
import { pushReportStore } from './commands/push-reports.ts'
import { commandResultStore } from './commands/results.ts'
import { deviceTokenStore } from './devices/device-tokens.ts'
import { deviceStore } from './devices/devices.ts'
import { deviceEraser } from './devices/erase.ts'
import { deviceLabelStore } from './devices/labels.ts'
import { offlineSweep } from './devices/offline.ts'
import { lookUpForLines } from './enrollment/line-lookups.ts'
import { registrationQueue } from './enrollment/registration-queue.ts'
import { enrollmentTokenStore } from './enrollment/tokens.ts'
import { untaggedTokens } from './enrollment/untagged-tokens.ts'
import { eventFeed } from './events/feed.ts'
import { SettledEvents } from './events/settled-events.ts'
import { storeHeartbeats } from './heartbeats/heartbeats.ts'
import { historyStore } from './heartbeats/history.ts'
import { partitions } from './heartbeats/partitions.ts'
import { hmacSecretStore } from './hmac-secrets.ts'
import { jobStore } from './jobs/jobs.ts'
import { jobQueue } from './jobs/release.ts'
import { Dialer } from './postgres/dialer.ts'
import { Pool, type PoolOptions } from './postgres/pool.ts'
import type { ServerClient } from './postgres/server-client.ts'
import { sessionVerifier, type VerifySession } from './postgres/session-check.ts'
import { boundedShareOf, prolonged, shareOf } from './postgres/share.ts'
import { usedSignatures } from './used-signatures.ts'

export interface StoresOptions
  extends Pick<PoolOptions, 'url' | 'isPrepared' | 'onOutcome' | 'failpoint'> {
  /** DATABASE_POOL_MAX, for all pools together. */
  readonly maxConnections: number
  /** Compares a new connection's server with earlier ones. */
  readonly verifyServer: VerifySession
  /** ALLOW_UNSAFE_DATABASE. */
  readonly isUnsafeAllowed: boolean
  readonly dedupWindowS: number
  readonly heartbeatIntervalS: number
  readonly heartbeatRetentionDays: number
  readonly deviceOfflineS: number
  /** Name of this replica, for timelines. */
  readonly instance: string
}

/** Concurrent statements on the hot path; groups form behind them. */
export const HEARTBEAT_CONNECTIONS = 1
/** Longest wait for a device that another transaction has locked; the whole group waits with it. */
const HEARTBEAT_LOCK_TIMEOUT_MS = 400
/**
 * One plan of the group statement for every fleet: by index from each heartbeat to its rows, in the order written.
 * The planner's choice, made for empty tables and kept while they grew, took 1.8 ms a heartbeat with 2,000 devices.
 */
export const HOT_SETTINGS = {
  plan_cache_mode: 'force_generic_plan',
  join_collapse_limit: '1',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_material: 'off',
}
/** For publishing, partitions and the labels of a selection; further ones wait. */
const SLOW_CONNECTIONS = 1
/** Enrollment tokens without our tag are looked up by one statement at a time. */
const UNTAGGED_CONNECTIONS = 1
/**
 * Share of the main pool for push (claims and records), expiry, counting and pruning: with 200,000 commands due, the
 * records of 64 concurrent pushes took every connection and requests waited.
 */
const BACKGROUND_SHARE = 1 / 2
/**
 * Share of the main pool for what admins read. With 100,000 devices a count takes up to a second, and 50 at once by one token
 * that only reads took every connection from phones; so did 600 connections that read one device again and again.
 */
const READ_SHARE = 1 / 2
/** As many as there may be readers of events, whom the same news wakes, and requests with `wait_ms`, which poll together. */
const MAX_WAITING_READS = 256
const READ_WAIT_MS = 1_000
/** Counts of the whole fleet (GET /admin/fleet, the phones of builds) run one at a time, beside shorter reads. */
const COUNT_WAIT_MS = 5_000
/** Of such a count: 300,000 phones took 0.9 s, those of builds up to 9 s. */
const COUNT_TIMEOUT_MS = 10_000
/** Of a statement that publishes an APK, moves a partition or labels a selection. */
const SLOW_TIMEOUT_MS = 30_000

/** One pool for each kind of work, all within `maxConnections`. */
function createPools(options: StoresOptions) {
  const { url, isPrepared, onOutcome, failpoint, isUnsafeAllowed } = options
  const dialer = new Dialer()
  const verifyOwn = sessionVerifier({ isUnsafeAllowed, arePinsChecked: true })
  const verifySession: VerifySession = async (client, timeoutMs) => {
    await verifyOwn(client, timeoutMs)
    await options.verifyServer(client, timeoutMs)
  }
  const common = {
    url,
    dialer,
    isPrepared,
    failpoint,
    verifySession,
    ...(onOutcome && { onOutcome }),
  }
  const hot = new Pool({
    ...common,
    maxConnections: HEARTBEAT_CONNECTIONS,
    lockTimeoutMs: HEARTBEAT_LOCK_TIMEOUT_MS,
    serverSettings: HOT_SETTINGS,
  })
  const slow = new Pool({
    ...common,
    maxConnections: SLOW_CONNECTIONS,
    queryTimeoutMs: SLOW_TIMEOUT_MS,
    connectTimeoutMs: SLOW_TIMEOUT_MS,
  })
  // Not observed: a stranger must not trigger `db.unavailable`.
  const forUntagged = new Pool({
    ...common,
    onOutcome: () => {},
    maxConnections: UNTAGGED_CONNECTIONS,
  })
  const reserved = HEARTBEAT_CONNECTIONS + SLOW_CONNECTIONS + UNTAGGED_CONNECTIONS
  const mainConnections = options.maxConnections - reserved
  const main = new Pool({ ...common, maxConnections: mainConnections })
  return { dialer, hot, slow, forUntagged, main, mainConnections }
}

type Pools = ReturnType<typeof createPools>

/** The two queues in front of connections that many may want at once. */
function createQueues({ forUntagged, main, mainConnections }: Pools, pools: readonly Pool[]) {
  const times = {
    msSinceResponse: () => Math.min(...pools.map((pool) => pool.msSinceResponse)),
    nowMs: () => performance.now(),
  }
  return {
    registrations: registrationQueue({
      database: main,
      maxAtOnce: Math.floor(mainConnections / 2),
      ...times,
    }),
    untagged: untaggedTokens({ judgeAll: enrollmentTokenStore(forUntagged).judgeAll, ...times }),
  }
}

/** Reads of admins, who may send any number. Requests that wait for the same command or job share one read. */
function createReads({ main, slow, mainConnections }: Pools) {
  const bounded = { maxWaiting: MAX_WAITING_READS, nowMs: () => performance.now() }
  const database = boundedShareOf(main, {
    ...bounded,
    maxConcurrent: Math.max(1, Math.floor(mainConnections * READ_SHARE)),
    maxWaitMs: READ_WAIT_MS,
  })
  const counts = boundedShareOf(prolonged(database, COUNT_TIMEOUT_MS), {
    ...bounded,
    maxConcurrent: 1,
    maxWaitMs: COUNT_WAIT_MS,
  })
  const devices = deviceStore(database)
  const jobs = jobStore(database, slow)
  const commands = commandStore(database)
  const apks = apkStore(database)
  return {
    database,
    devices: {
      find: devices.find,
      list: devices.list,
      select: devices.select,
      summarize: deviceStore(counts).summarize,
    },
    jobs: {
      find: joinReads(jobs.find),
      list: jobs.list,
      members: jobs.members,
    },
    jobsForAdmins: { offline: jobs.offline },
    commands: {
      find: joinReads(commands.find),
      timeline: commands.timeline,
      list: commands.list,
    },
    tokens: { list: enrollmentTokenStore(database).list },
    apks: { find: apks.find, list: apks.list, countReported: apkStore(counts).countReported },
    apksForAdmins: { latest: apks.latest },
  }
}

export type Stores = ReturnType<typeof createStores>

export function createStores(options: StoresOptions) {
  const { instance } = options
  const created = createPools(options)
  const { dialer, hot, slow, forUntagged, main, mainConnections } = created
  const pools = [hot, slow, forUntagged, main]
  const { registrations, untagged } = createQueues(created, pools)
  const background = shareOf(main, Math.max(1, Math.floor(mainConnections * BACKGROUND_SHARE)))
  const reads = createReads(created)

  return {
    /** Makes all connections of the process. */
    dialer,
    database: main,
    tokens: { ...enrollmentTokenStore(main), ...reads.tokens, judgeUntagged: untagged.judge },
    judgeForLines: lookUpForLines(main, () => performance.now()),
    deviceTokens: deviceTokenStore(main),
    devices: { ...deviceStore(main), ...reads.devices },
    deviceLabels: deviceLabelStore(main, slow),
    history: historyStore(reads.database, options.dedupWindowS),
    eraser: deviceEraser(main, historyStore(main, options.dedupWindowS)),
    sweepOffline: offlineSweep(background, options.deviceOfflineS),
    events: eventFeed(reads.database),
    settledEvents: new SettledEvents(main, () => performance.now()),
    secrets: hmacSecretStore(main),
    register: registrations.register,
    commands: { ...commandStore(main), ...reads.commands },
    outbox: {
      ...commandOutbox(background, instance),
      // For the shutdown, which has no time to wait for the share.
      handBack: commandOutbox(main, instance).handBack,
    },
    background,
    jobs: { ...jobStore(main, slow), ...reads.jobs },
    jobsForAdmins: reads.jobsForAdmins,
    jobQueue: (isPushOn: boolean) => jobQueue(background, { instance, isPushOn }),
    results: commandResultStore(main, instance),
    pushReports: pushReportStore(main),
    audit: auditStore(reads.database),
    apks: { ...apkStore(main), ...reads.apks },
    apksForAdmins: reads.apksForAdmins,
    publishing: apkStore(slow),
    downloads: downloadStore(main, reads.database),
    signatures: usedSignatures(main),
    partitions: partitions(slow, { retentionDays: options.heartbeatRetentionDays }),
    storeHeartbeats: storeHeartbeats(hot, options.dedupWindowS, options.heartbeatIntervalS),
    mailbox: mailbox(main, instance),
    gauges: {
      dbPoolInUse: () => pools.reduce((sum, pool) => sum + pool.connectionsInUse, 0),
      // Without `forUntagged`, whose callers more connections would not help.
      dbPoolWaiting: () => hot.waiting + slow.waiting + main.waiting,
      untaggedTokensRefused: () => untagged.refused,
      registrationsWaiting: () => registrations.waiting,
      backgroundWaiting: () => background.waiting,
      dbConnectAttempts: () => dialer.attempts,
      dbConnectFailures: () => dialer.failedAttempts,
      dbConnectionsGivenUp: () => dialer.givenUp,
      dbCancelRequests: () => dialer.cancels,
    },
    /** Makes a connection outside of the pools. */
    attempt: main.attempt,
    /** Closes immediately the connections for which `isOld` holds. */
    drop(isOld: (client: ServerClient) => boolean): void {
      for (const pool of pools) pool.drop(isOld)
    },
    /** Waits at most `deadlineMs` for statements in flight. */
    async close(deadlineMs: number): Promise<void> {
      registrations.close()
      untagged.close()
      const closing = pools.map((pool) => pool.close(deadlineMs))
      dialer.close()
      await Promise.all(closing)
    },
  }
}
