/** A row of apk_builds, and the audit columns of a change. */
import type { ApkFacts } from '../../domain/apk-facts.ts'
import { timeText } from '../list-page.ts'
import type { Query, Queryable } from '../postgres/pool.ts'

/** A build as its publisher describes it. */
export interface NewBuild {
  readonly buildId: string
  readonly buildType: string
  /** 0 to 2^53 - 1. */
  readonly versionCode: number
  readonly versionName: string | null
  readonly gitSha: string | null
  readonly ciRunId: string | null
  readonly signerFingerprint: string | null
  /** 32 bytes. */
  readonly sha256: Buffer
  readonly sizeBytes: number
}

export type BuildState = 'live' | 'staged' | 'withdrawn'

export interface Build extends NewBuild {
  /** null: not read yet, or unreadable. */
  readonly facts: ApkFacts | null
  /** Why the bytes of a build from a former release could not be read. */
  readonly unreadable: string | null
  readonly state: BuildState
  /** RFC 3339 with microseconds, `Z`; also the sort key of lists. */
  readonly publishedAt: string
  readonly publishedBy: string
  /** null: live since it was published. */
  readonly releasedAt: string | null
  /** null: not withdrawn. */
  readonly withdrawnAt: string | null
  readonly withdrawnBy: string | null
  /** False only if the database was restored without apk_chunks and the build was not published again. */
  readonly hasBytes: boolean
}

/** Audit columns of the author. */
export interface AuditedBy {
  readonly admin: string
  readonly requestId: string
  readonly ip: string | null
}

/**
 * Build `b` has its last chunk and therefore all: they are inserted in one transaction and never deleted singly. `limit 1`:
 * for `exists` PostgreSQL hashed the chunks of all builds to answer for one.
 */
export const HAS_BYTES = /* sql */ `
  coalesce((select true from apk_chunks c where c.build_id = b.build_id and c.chunk_no = b.chunk_count - 1 limit 1), false)`

/** No admin has released or withdrawn it. */
export const IS_STAGED = '(staged and withdrawn_by is null)'

/** Every column of a build `b`, for `readBuilds`. */
export const COLUMNS = /* sql */ `
  build_id as "buildId", build_type as "buildType", version_code as "versionCode",
  version_name as "versionName", git_sha as "gitSha", ci_run_id as "ciRunId",
  signer_fingerprint as "signerFingerprint", sha256, size_bytes as "sizeBytes",
  ${timeText('published_at')} as "publishedAt",
  published_by as "publishedBy",
  ${timeText('released_at')} as "releasedAt",
  ${timeText(`case when not ${IS_STAGED} then withdrawn_at end`)} as "withdrawnAt",
  withdrawn_by as "withdrawnBy", ${HAS_BYTES} as "hasBytes",
  case when withdrawn_at is null then 'live' when ${IS_STAGED} then 'staged' else 'withdrawn' end as "state",
  package as "packageName", min_sdk as "minSdk", target_sdk as "targetSdk",
  debuggable as "isDebuggable", signing, signers, unreadable`

const FIND = /* sql */ `select ${COLUMNS} from apk_builds b where build_id = $1`

/** bigint comes as text; both were safe integers when they were written. */
type Row = Omit<Build, 'versionCode' | 'sizeBytes' | 'facts'> & {
  readonly versionCode: string
  readonly sizeBytes: string
} & (ApkFacts | { readonly [Name in keyof ApkFacts]: null })

/** Finds withdrawn builds too. */
export async function findBuild(database: Queryable, buildId: string): Promise<Build | undefined> {
  return (await readBuilds(database, { name: 'apks.find', text: FIND, values: [buildId] }))[0]
}

/** Runs a query that selects COLUMNS and those of More. */
export async function readBuilds<More extends object = object>(
  database: Queryable,
  query: Query,
): Promise<readonly (Build & More)[]> {
  const { rows } = await database.query<Row & More>(query)
  return rows.map((row) => ({
    ...row,
    facts: row.packageName === null ? null : row,
    versionCode: Number(row.versionCode),
    sizeBytes: Number(row.sizeBytes),
  }))
}
