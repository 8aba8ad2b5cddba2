/** Stores, what is known of the database server, and the check of it. */
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { readSeen, SEEN_FILE, writeSeen } from '../db/health/seen-file.ts'
import { rewoundLine, ServerHistory } from '../db/health/server-history.ts'
import { createServerWatch } from '../db/health/server-watch.ts'
import { createStores, type StoresOptions } from '../db/stores.ts'
import type { Line } from '../telemetry/log/log.ts'

export interface DatabasePartsDeps
  extends Pick<StoresOptions, 'url' | 'onOutcome' | 'failpoint' | 'instance'> {
  readonly log: (line: Line) => void
  /** Notes for people, on stderr. */
  readonly printNotice: (text: string) => void
  readonly nowMs: () => number
}

export async function createDatabaseParts(config: Config, deps: DatabasePartsDeps) {
  const { log, printNotice, nowMs } = deps
  const seenFile = join(config.dataDir, SEEN_FILE)
  const history = new ServerHistory({
    before: await readSeen(seenFile),
    isUnsafeAllowed: config.allowUnsafeDatabase,
    onRewound: (rewound) => {
      log(rewoundLine(rewound))
      keep().catch(() => {}) // as of each check that succeeds
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
    ...deps,
    verifyServer: history.verify,
    isPrepared: config.isDatabasePrepared,
    isUnsafeAllowed: config.allowUnsafeDatabase,
    maxConnections: config.databasePoolMax,
    dedupWindowS: config.heartbeatDedupWindowS,
    heartbeatIntervalS: config.heartbeatIntervalS,
    heartbeatRetentionDays: config.heartbeatRetentionDays,
  })
  const watch = createServerWatch({
    dialer: stores.dialer,
    attempt: stores.attempt,
    drop: stores.drop,
    history,
    keep,
    log,
    printNotice,
    nowMs,
  })
  return { verifyServer: history.verify, stores, watch }
}
