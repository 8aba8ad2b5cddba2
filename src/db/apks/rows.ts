/** A row of apk_builds, and the audit columns of a change. */
import type { Query, Queryable } from '../postgres/pool.ts'

/** A build as its publisher describes it. */
export interface NewBuild {
  readonly buildId: string
  readonly buildType: string
  /** 1 to 2^53 - 1. */
  readonly versionCode: number
  readonly versionName: string | null
  readonly gitSha: string | null
  readonly ciRunId: string | null
  readonly signerFingerprint: string | null
  /** 32 bytes. */
  readonly sha256: Buffer
  readonly sizeBytes: number
}

export interface Build extends NewBuild {
  /** RFC 3339 with microseconds, `Z`; the sort key of lists. */
  readonly publishedAt: string
  readonly publishedBy: string
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

/** Build `b` has its last chunk and therefore all: they are inserted in one transaction and never deleted singly. */
export const HAS_BYTES = /* sql */ `
  exists (select from apk_chunks c where c.build_id = b.build_id and c.chunk_no = b.chunk_count - 1)`

/** Every column of a build `b`, for `readBuilds`. */
export const COLUMNS = /* sql */ `
  build_id as "buildId", build_type as "buildType", version_code as "versionCode",
  version_name as "versionName", git_sha as "gitSha", ci_run_id as "ciRunId",
  signer_fingerprint as "signerFingerprint", sha256, size_bytes as "sizeBytes",
  to_char(published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "publishedAt",
  published_by as "publishedBy",
  to_char(withdrawn_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "withdrawnAt",
  withdrawn_by as "withdrawnBy", ${HAS_BYTES} as "hasBytes"`

const FIND = /* sql */ `select ${COLUMNS} from apk_builds b where build_id = $1`

/** bigint arrives as text; both are safe integers. */
type Row = Omit<Build, 'versionCode' | 'sizeBytes'> & {
  readonly versionCode: string
  readonly sizeBytes: string
}

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
    versionCode: Number(row.versionCode),
    sizeBytes: Number(row.sizeBytes),
  }))
}
