/** Two replicas on one database, each with its own disk: `taker` receives the uploads, `giver` serves the phones. */
import { join } from 'node:path'
import pg from 'pg'
import type { Device } from '../../sim/device/device.ts'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { createFleet } from '../../sim/fleet.ts'
import { createSend } from '../../testkit/http/client.ts'
import { freePort } from '../../testkit/listen.ts'
import { type Replica, type ReplicaOptions, startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import type { DatabaseEnvironment } from '../drill.ts'
import { createUploads, type Uploads } from './uploads.ts'

export interface StageOptions extends DatabaseEnvironment {
  readonly minBytes: number
  readonly maxBytes: number
  readonly phones: number
  /** 0 inclusive to 1 exclusive. */
  readonly random: () => number
}

export interface Seat {
  readonly dataDir: string
  readonly origin: string
  life: Replica
  /** Restarts it on the same disk and port; the previous process has ended. */
  restart(
    options?: Pick<ReplicaOptions, 'main'> & { readonly env?: Record<string, string> },
  ): Promise<void>
}

export interface Stage {
  readonly taker: Seat
  readonly giver: Seat
  readonly devices: readonly Device[]
  readonly uploads: Uploads
  readonly db: pg.Client
  /** Bound of `apk-cache` on the giver. */
  readonly cacheBytes: number
  readonly adminToken: string
  close(): Promise<void>
}

/** Few enough that the cache must evict. */
const CACHED_APKS = 4

export async function openStage(options: StageOptions): Promise<Stage> {
  const { databaseUrl, dir, minBytes, maxBytes, phones, random } = options
  const cacheBytes = CACHED_APKS * maxBytes
  const lives: Replica[] = []

  async function take(name: string): Promise<Seat> {
    const dataDir = join(dir, name)
    const settings = {
      ...serviceSettings(databaseUrl, dataDir),
      APK_MAX_BYTES: String(maxBytes),
      APK_CACHE_BYTES: String(cacheBytes),
      RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '1000000',
      RATE_LIMIT_APK_PER_SUBNET_PER_MIN: '1000000',
      APK_MAX_DOWNLOADS_PER_SUBNET: '100000',
    }
    const start = (more: ReplicaOptions) => {
      const life = startReplica(more)
      lives.push(life)
      return life
    }
    const port = await freePort() // one that is still free when it restarts
    const life = start({ settings, port })
    const origin = await life.ready
    const seat: Seat = {
      dataDir,
      origin,
      life,
      async restart({ main = 'src/main.js', env = {} } = {}) {
        seat.life = start({ settings: { ...settings, ...env }, port, main })
        await seat.life.ready
      },
    }
    return seat
  }

  const db = new pg.Client({ connectionString: databaseUrl })
  async function close() {
    for (const life of lives) life.signal('SIGKILL')
    await Promise.all(lives.map(({ ended }) => ended))
    await db.end()
  }
  await db.connect()
  try {
    const taker = await take('taker') // it migrates
    const giver = await take('giver')
    const send = createSend(giver.origin)
    const aliases = Array.from({ length: phones }, (_, index) => `APK-${index + 1}`)
    const { devices, enroll } = createFleet({ send, aliases, nowMs: Date.now, random })
    await enroll(await issueEnrollmentTokens(send, ADMIN_TOKEN, aliases))
    const uploads = createUploads({ adminToken: ADMIN_TOKEN, minBytes, maxBytes, random })
    return { taker, giver, devices, uploads, db, cacheBytes, adminToken: ADMIN_TOKEN, close }
  } catch (error) {
    await close()
    throw error
  }
}
