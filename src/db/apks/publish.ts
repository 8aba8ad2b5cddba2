/** Stores a build with its bytes and audit row in one transaction; one at a time per id. */
import type { ApkFacts } from '../../domain/apk-facts.ts'
import type { ApkSource } from '../../domain/apk-source.ts'
import type { AuditWhat } from '../../domain/audit.ts'
import { AppError } from '../../domain/errors.ts'
import { sleep } from '../../lib/timeouts.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { sqlstate } from '../postgres/sqlstate.ts'
import { MAX_CHUNK_BYTES, writeChunks } from './chunks.ts'
import { type AuditedBy, type Build, findBuild, type NewBuild } from './rows.ts'
import { checkSigners, pinSigners, type SignedBuild, SignerChanged } from './signer-pins.ts'

export type PublishOutcome =
  | { readonly kind: 'published'; readonly build: Build }
  /** Published before, but its bytes were lost: they are restored, the build is unchanged. */
  | { readonly kind: 'restored'; readonly build: Build }
  /** The same id and bytes; the build is unchanged, whatever the repeat's description. */
  | { readonly kind: 'already_published'; readonly build: Build }
  | { readonly kind: 'conflict'; readonly reason: 'other_bytes' | 'withdrawn' }
  /** Another key than that of the package's builds before: Android would refuse the update. */
  | { readonly kind: 'signer_changed'; readonly pinned: readonly string[] }

export interface Upload {
  readonly build: NewBuild
  readonly facts: ApkFacts
  /** What the signer's key has replaced, as its proof of rotation says; SHA-256 of the certificates, hex. */
  readonly replaced: readonly string[]
  /** Another signer than the pinned one is accepted. */
  readonly isSignerAccepted: boolean
  readonly isStaged: boolean
}

/** False while any replica publishes this id. The first number only separates these locks from others. */
const TRY_LOCK = /* sql */ `
  select pg_try_advisory_xact_lock(6385771, hashtext($1)) as "isLocked"`

const INSERT = /* sql */ `
  insert into apk_builds (build_id, build_type, version_code, version_name, git_sha, ci_run_id,
    signer_fingerprint, sha256, size_bytes, chunk_count, published_by, request_id, package, min_sdk,
    target_sdk, debuggable, signing, signers, staged, withdrawn_at)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    case when $19::boolean then now() end)
  on conflict (build_id) do nothing`

/** For the bytes that a restore left out: the build was published by a release that did not read them. */
const DESCRIBE = /* sql */ `
  update apk_builds set package = $2, min_sdk = $3, target_sdk = $4, debuggable = $5, signing = $6,
    signers = $7, replaces = nullif($8::text[], '{}'), unreadable = null
  where build_id = $1 and package is null`

const AUDIT = /* sql */ `
  insert into audit_log (admin, what, subject, request_id, ip, detail)
  select $2, '${'apk.publish' satisfies AuditWhat}', build_id, $3, $4,
    jsonb_build_object('build_type', build_type, 'version_code', version_code,
      'sha256', encode(sha256, 'hex'), 'size_bytes', size_bytes, 'package', package,
      'signers', signers, 'staged', staged, 'accepted_signer', $5::boolean)
  from apk_builds where build_id = $1`

/** Sets of signers, the digests of each joined by commas. */
const KEEP_REPLACES = /* sql */ `
  update apk_builds set replaces = $2 where build_id = $1`

const LOCK_POLL_MS = 100
const MAX_LOCK_POLLS = 300
const DISK_FULL = '53100'

/** See ApkStore.publish. */
export async function publishBuild(
  database: Database,
  upload: Upload,
  source: ApkSource,
  by: AuditedBy,
): Promise<PublishOutcome> {
  for (let poll = 0; poll < MAX_LOCK_POLLS; poll++) {
    const outcome = await database
      .transaction((tx) => publishOnce(tx, upload, source, by))
      .catch(refusalOf)
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
  upload: Upload,
  source: ApkSource,
  by: AuditedBy,
): Promise<PublishOutcome | undefined> {
  const { build, facts } = upload
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
      ...factValues(facts),
      upload.isStaged,
    ],
  })
  const stored = await findBuild(tx, buildId)
  if (stored === undefined) throw new Error('a build vanished while it was published')
  if (stored.state === 'withdrawn') return { kind: 'conflict', reason: 'withdrawn' }
  if (!stored.sha256.equals(sha256)) return { kind: 'conflict', reason: 'other_bytes' }
  if (stored.hasBytes) {
    await confirmReplicated(tx)
    return { kind: 'already_published', build: stored }
  }

  const isPublished = rowCount === 1
  // Restored bytes were accepted when they were published.
  if (isPublished) await checkSigners(tx, signedBy(upload))
  await writeChunks(tx, build, source)
  const isAccepted = isPublished && (await pinUpload(tx, upload))
  if (!isPublished) await describeBuild(tx, buildId, upload)
  const audited = [buildId, by.admin, by.requestId, by.ip, isAccepted]
  await tx.query({ name: 'apks.audit_publish', text: AUDIT, values: audited })
  const kind = isPublished ? 'published' : 'restored'
  const read = { facts: stored.facts ?? facts, unreadable: null, hasBytes: true }
  return { kind, build: { ...stored, ...read } }
}

/** What the signers of the upload may replace. */
function signedBy({ build, facts, replaced, isSignerAccepted }: Upload): SignedBuild {
  const { packageName, signers } = facts
  const mayReplace = (pinned: readonly string[]) => isSignerAccepted || isProven(replaced, pinned)
  return { buildId: build.buildId, packageName, signers, mayReplace }
}

function isProven(replaced: readonly string[], pinned: readonly string[]): boolean {
  return pinned.length === 1 && replaced.includes(pinned.join())
}

/** Pins, and remembers for its release what a staged build may replace. True: an admin has accepted its signers. */
async function pinUpload(tx: Queryable, upload: Upload): Promise<boolean> {
  const { build, replaced, isStaged } = upload
  const pinned = await pinSigners(tx, signedBy(upload), !isStaged)
  const isAccepted = pinned !== null && !isProven(replaced, pinned)
  const replaces = isAccepted ? [...replaced, pinned.join()] : replaced
  if (isStaged && replaces.length > 0) {
    const values = [build.buildId, replaces]
    await tx.query({ name: 'apks.keep_replaces', text: KEEP_REPLACES, values })
  }
  return isAccepted
}

/** Stores what was read from a build that was published without it. False: it has been read meanwhile. */
export async function describeBuild(
  tx: Queryable,
  buildId: string,
  { facts, replaced }: Pick<Upload, 'facts' | 'replaced'>,
): Promise<boolean> {
  const values = [buildId, ...factValues(facts), replaced]
  return (await tx.query({ name: 'apks.describe', text: DESCRIBE, values })).rowCount === 1
}

function factValues(facts: ApkFacts): readonly unknown[] {
  const { packageName, minSdk, targetSdk, isDebuggable, signing, signers } = facts
  return [packageName, minSdk, targetSdk, isDebuggable, signing, signers]
}

/** A refusal rolls back by throwing. The database's disk, not the way to it, is 507 instead of 503. */
function refusalOf(error: unknown): PublishOutcome {
  if (error instanceof SignerChanged) return { kind: 'signer_changed', pinned: error.pinned }
  const isFull = error instanceof AppError && sqlstate(error.cause) === DISK_FULL
  if (!isFull) throw error
  throw new AppError('insufficient_storage', 'The database has no space left. Nothing was kept.', {
    cause: error,
  })
}
