/** Stores a build with its bytes and audit row in one transaction; one at a time per id. */
import { AppError } from '../../domain/errors.ts'
import type { ReadAt } from '../../domain/zip.ts'
import { sleep } from '../../lib/timeouts.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { sqlstate } from '../postgres/sqlstate.ts'
import { MAX_CHUNK_BYTES, writeChunks } from './chunks.ts'
import { type AuditedBy, type Build, findBuild, type NewBuild } from './rows.ts'

export type PublishOutcome =
  | { readonly kind: 'published'; readonly build: Build }
  /** Published before, but its bytes were lost: they are restored, the build is unchanged. */
  | { readonly kind: 'restored'; readonly build: Build }
  /** The same id and bytes; the build is unchanged, whatever the repeat's description. */
  | { readonly kind: 'already_published'; readonly build: Build }
  | { readonly kind: 'conflict'; readonly reason: 'other_bytes' | 'withdrawn' }

/** False while any replica publishes this id. The first number only separates these locks from others. */
const TRY_LOCK = /* sql */ `
  select pg_try_advisory_xact_lock(6385771, hashtext($1)) as "isLocked"`

const INSERT = /* sql */ `
  insert into apk_builds (build_id, build_type, version_code, version_name, git_sha, ci_run_id,
    signer_fingerprint, sha256, size_bytes, chunk_count, published_by, request_id)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
  on conflict (build_id) do nothing`

const AUDIT = /* sql */ `
  insert into audit_log (admin, what, subject, request_id, ip, detail)
  select $2, 'apk.publish', build_id, $3, $4,
    jsonb_build_object('build_type', build_type, 'version_code', version_code,
      'sha256', encode(sha256, 'hex'), 'size_bytes', size_bytes)
  from apk_builds where build_id = $1`

const LOCK_POLL_MS = 100
const MAX_LOCK_POLLS = 300
const DISK_FULL = '53100'

/** See ApkStore.publish. */
export async function publishBuild(
  database: Database,
  build: NewBuild,
  readAt: ReadAt,
  by: AuditedBy,
): Promise<PublishOutcome> {
  for (let poll = 0; poll < MAX_LOCK_POLLS; poll++) {
    const outcome = await database
      .transaction((tx) => publishOnce(tx, build, readAt, by))
      .catch(diskFull)
    if (outcome !== undefined) return outcome
    // Waits without a connection: the other transaction may take seconds.
    await sleep(LOCK_POLL_MS)
  }
  throw new AppError('overloaded', 'Another upload of this build is being stored. Try again.', {
    retryAfterS: 10,
  })
}

/** undefined: another upload of this id is in progress. */
async function publishOnce(
  tx: Queryable,
  build: NewBuild,
  readAt: ReadAt,
  by: AuditedBy,
): Promise<PublishOutcome | undefined> {
  const { buildId, sizeBytes, sha256 } = build
  const lock = await tx.query<{ isLocked: boolean }>({
    name: 'apks.try_lock',
    text: TRY_LOCK,
    values: [buildId],
  })
  if (lock.rows[0]?.isLocked !== true) return undefined

  const { rowCount } = await tx.query({
    name: 'apks.publish',
    text: INSERT,
    values: [
      buildId,
      build.buildType,
      build.versionCode,
      build.versionName,
      build.gitSha,
      build.ciRunId,
      build.signerFingerprint,
      sha256,
      sizeBytes,
      Math.ceil(sizeBytes / MAX_CHUNK_BYTES),
      by.admin,
      by.requestId,
    ],
  })
  const stored = await findBuild(tx, buildId)
  if (stored === undefined) throw new Error('a build vanished while it was published')
  if (stored.withdrawnAt !== null) return { kind: 'conflict', reason: 'withdrawn' }
  if (!stored.sha256.equals(sha256)) return { kind: 'conflict', reason: 'other_bytes' }
  if (stored.hasBytes) {
    await confirmReplicated(tx)
    return { kind: 'already_published', build: stored }
  }

  await writeChunks(tx, build, readAt)
  const audited = [buildId, by.admin, by.requestId, by.ip]
  await tx.query({ name: 'apks.audit_publish', text: AUDIT, values: audited })
  const kind = rowCount === 1 ? 'published' : 'restored'
  return { kind, build: { ...stored, hasBytes: true } }
}

/** A full disk of the database gives 507 instead of 503. */
function diskFull(error: unknown): never {
  const isFull = error instanceof AppError && sqlstate(error.cause) === DISK_FULL
  if (!isFull) throw error
  throw new AppError('insufficient_storage', 'The database has no space left. Nothing was kept.', {
    cause: error,
  })
}
