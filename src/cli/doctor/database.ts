/** The database, by the checks of the start. Nothing is written and no migration is applied. */
import {
  connectionsOf,
  fingerprintsOf,
  isPoolerRefusal,
  POOLER,
  secretFault,
} from '../../app/startup.ts'
import type { Config } from '../../config/config.ts'
import { maskedUrl } from '../../config/database.ts'
import { TROUBLES, troubleOf } from '../../db/health/trouble.ts'
import { hmacSecretStore } from '../../db/hmac-secrets.ts'
import { Pool } from '../../db/postgres/pool.ts'
import { SessionError, sessionVerifier } from '../../db/postgres/session-check.ts'
import { checkDatabase } from '../../db/schema/database-check.ts'
import { readMigrations, tablesOf } from '../../db/schema/migrate.ts'
import { AppError } from '../../domain/errors.ts'
import { errorText } from '../../lib/error-text.ts'
import { duration } from '../terminal/ago.ts'
import { type FreeBytes, freeBytesOf } from './disk.ts'
import { type Finding, fault, good, skipped } from './finding.ts'

const AREA = 'database'
const CONNECT_MS = 3_000
const CLOSE_MS = 500
/** Signatures and the expiry of tokens go by the clock. */
const MAX_CLOCK_MS = 30_000
const MIB = 1024 ** 2
/** Two checkpoints of WAL at its default size. */
const MIN_FREE_BYTES = 2_048 * MIB

/** A later release may have migrated it; this one runs on that, unless a migration says that it breaks it. */
const APPLIED = /* sql */ `
  select coalesce(max(number), 0) as "latest",
    coalesce(max(number) filter (where is_breaking), 0) as "latestBreaking" from schema_migrations`
const FACTS = /* sql */ `
  select to_regclass('schema_migrations') is not null as "isMigrated", clock_timestamp() as "now",
    case when pg_has_role('pg_read_all_settings', 'usage')
      and (inet_client_addr() is null or inet_client_addr() = inet_server_addr())
      then current_setting('data_directory') end as "localDirectory",
    (select count(*)::int from pg_stat_replication where state = 'streaming') as "standbys",
    current_setting('synchronous_standby_names') as "synchronous"`

interface Facts {
  readonly isMigrated: boolean
  readonly now: Date
  /** null: on another host, or this role may not know it. */
  readonly localDirectory: string | null
  readonly standbys: number
  readonly synchronous: string
}

interface Applied {
  readonly latest: number
  readonly latestBreaking: number
}

export async function checkDatabases(
  config: Config,
  now: () => Date,
  freeBytes: FreeBytes = freeBytesOf,
): Promise<readonly Finding[]> {
  const { databaseUrl, migrateDatabaseUrl } = config
  if (databaseUrl === null) return [skipped(AREA, 'embedded: the service starts and checks it')]
  const here = { now, freeBytes }
  const direct = { ...config, isDatabasePrepared: true }
  const parts = await Promise.all([
    checkUrl(AREA, databaseUrl, config, here),
    migrateDatabaseUrl === null ? [] : checkUrl('migrations', migrateDatabaseUrl, direct, here),
  ])
  return parts.flat()
}

/** What a check learns of this host. */
interface Host {
  readonly now: () => Date
  readonly freeBytes: FreeBytes
}

async function checkUrl(
  area: string,
  url: string,
  config: Config,
  host: Host,
): Promise<readonly Finding[]> {
  const rules = { isUnsafeAllowed: config.allowUnsafeDatabase, arePinsChecked: true }
  const pool = new Pool({
    url,
    isPrepared: config.isDatabasePrepared,
    maxConnections: 1,
    connectTimeoutMs: CONNECT_MS,
    verifySession: sessionVerifier(rules),
  })
  try {
    const faults = await faultsOf(area, pool, config, host)
    return faults.length > 0 ? faults : [good(area, `${maskedUrl(url)} can be used`)]
  } catch (error) {
    const cause = error instanceof AppError ? (error.cause ?? error) : error
    if (cause instanceof SessionError) return cause.faults.map((text) => fault(area, text))
    if (isPoolerRefusal(cause)) return [fault(area, POOLER)]
    const trouble = troubleOf(cause)
    return [fault(area, `${maskedUrl(url)}: ${TROUBLES[trouble]} (${errorText(cause)})`)]
  } finally {
    await pool.close(CLOSE_MS)
  }
}

async function faultsOf(
  area: string,
  pool: Pool,
  config: Config,
  { now, freeBytes }: Host,
): Promise<readonly Finding[]> {
  const beforeMs = now().getTime()
  const { rows } = await pool.query<Facts>({ name: 'doctor.facts', text: FACTS })
  const [facts] = rows
  if (facts === undefined) throw new Error('the database says nothing of itself')
  const faults = [
    ...clockFaults(facts.now.getTime() - (beforeMs + now().getTime()) / 2),
    ...replicationFaults(facts),
    ...(await spaceFaults(facts, freeBytes)),
  ]
  if (!facts.isMigrated) return faults // the first start makes the tables
  const migrations = readMigrations()
  const { rows: applied } = await pool.query<Applied>({ name: 'doctor.applied', text: APPLIED })
  const { latest = 0, latestBreaking = 0 } = applied[0] ?? {}
  if (latestBreaking > migrations.length) {
    const what = `migration ${latestBreaking} of a newer release breaks this one`
    return [...faults, fault(area, `${what}: run that release, or restore a backup from before it`)]
  }
  if (latest < migrations.length) return faults // the start migrates before it checks the rest
  const check = await checkDatabase(pool, tablesOf(migrations), connectionsOf(config))
  const secret = secretFault(await hmacSecretStore(pool).compare(fingerprintsOf(config)))
  return [
    ...faults,
    ...[...check.faults, ...check.notes].map((text) => fault(area, text)),
    ...(secret === undefined ? [] : [fault('secrets', secret)]),
  ]
}

/** `offMs`: the database's clock minus ours. */
function clockFaults(offMs: number): Finding[] {
  if (Math.abs(offMs) <= MAX_CLOCK_MS) return []
  const which = offMs > 0 ? 'behind' : 'ahead of'
  const text = `this machine's clock is ${duration(Math.abs(offMs))} ${which} the database's`
  return [fault('clock', `${text}: synchronize both (chronyc tracking, timedatectl)`)]
}

/** PostgreSQL stops when it cannot write its WAL. Only a server on this host is seen. */
async function spaceFaults(
  { localDirectory }: Facts,
  freeBytes: FreeBytes,
): Promise<readonly Finding[]> {
  if (localDirectory === null) return []
  const free = await freeBytes(localDirectory).catch(() => Number.POSITIVE_INFINITY) // not ours to see
  if (free >= MIN_FREE_BYTES) return []
  const text = `${localDirectory} of the database has ${Math.floor(free / MIB)} MiB free`
  return [fault('disk', `${text}: make room before PostgreSQL stops`)]
}

/** A synchronous standby that is away keeps every commit waiting. */
export function replicationFaults({ standbys, synchronous }: Facts): readonly Finding[] {
  if (synchronous === '' || standbys > 0) return []
  const text = `synchronous_standby_names is ${synchronous}, and no standby streams: commits wait`
  return [fault('replication', `${text}; bring a standby back, or empty the setting and reload`)]
}
