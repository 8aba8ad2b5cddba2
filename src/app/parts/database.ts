/** The stores, the health of the database, and the watch on its server. */
import { join } from 'node:path'
import { DatabaseHealth } from '../../db/health/health.ts'
import { readSeen, SEEN_FILE, writeSeen } from '../../db/health/seen-file.ts'
import { rewoundLine, ServerHistory } from '../../db/health/server-history.ts'
import { createServerWatch } from '../../db/health/server-watch.ts'
import { prunes } from '../../db/retention.ts'
import { ping } from '../../db/schema/installation.ts'
import { createStores } from '../../db/stores.ts'
import { singleFlight } from '../../lib/timeouts.ts'
import { SIGNATURE_KEPT_S } from '../../security/signature.ts'
import type { ServiceContext } from '../service-context.ts'

export type DatabaseParts = Awaited<ReturnType<typeof createDatabaseParts>>

export async function createDatabaseParts(context: ServiceContext, url: string) {
  const { config, logLine, printNotice, nowMs } = context
  const health = new DatabaseHealth(logLine, nowMs)
  const seenFile = join(config.dataDir, SEEN_FILE)
  const history = new ServerHistory({
    before: await readSeen(seenFile),
    isUnsafeAllowed: config.allowUnsafeDatabase,
    onRewound: (rewound) => {
      logLine(rewoundLine(rewound))
      keep().catch(() => {}) // each check that succeeds tries again
    },
    nowMs,
  })
  let kept: Promise<unknown> = Promise.resolve()
  function keep(): Promise<void> {
    const write = async () => {
      if (history.seen !== undefined) await writeSeen(seenFile, history.seen)
    }
    const written = kept.then(write)
    kept = written.catch(() => {})
    return written
  }
  const stores = createStores({
    url,
    onOutcome: health.observe,
    instance: context.instance,
    failpoint: context.failpoint,
    verifyServer: history.verify,
    isPrepared: config.isDatabasePrepared,
    isUnsafeAllowed: config.allowUnsafeDatabase,
    maxConnections: config.databasePoolMax,
    dedupWindowS: config.heartbeatDedupWindowS,
    heartbeatIntervalS: config.heartbeatIntervalS,
    heartbeatRetentionDays: config.heartbeatRetentionDays,
    deviceOfflineS: config.deviceOfflineS,
  })
  const watch = createServerWatch({
    dialer: stores.dialer,
    attempt: stores.attempt,
    drop: stores.drop,
    history,
    keep,
    log: logLine,
    printNotice,
    nowMs,
  })
  /** One ping at a time; callers share it. */
  const pingOnce = singleFlight(() => ping(stores.database, health.needsWrite))
  return {
    stores,
    watch,
    health,
    ping: pingOnce,
    /** What the start of the service needs. */
    forStart: {
      dialer: stores.dialer,
      verifyServer: history.verify,
      database: stores.database,
      secrets: stores.secrets,
      observe: health.report,
    },
    prunes: prunes(stores.background, { ...config, signatureS: SIGNATURE_KEPT_S }),
  }
}
