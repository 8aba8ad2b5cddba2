/** A row of apk_builds, and the audit columns of whoever changes one. */
import type { Query, Queryable } from '../postgres/pool.ts'

/** What whoever publishes says of a build. */
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
  /** RFC 3339 with microseconds, `Z`; also the sort key of lists. */
  readonly publishedAt: string
  readonly publishedBy: string
  /** null: not withdrawn. */
  readonly withdrawnAt: string | null
  readonly withdrawnBy: string | null
  /** False only where the database was restored without apk_chunks, and nobody has published the build again. */
  readonly hasBytes: boolean
}

/** Who did it: columns of the audit row. */
export interface AuditedBy {
  readonly admin: string
  readonly requestId: string
  readonly ip: string | null
}

/** Of a build `b`: its last chunk is there, and so are all, which come in one transaction and go only with the table. */
export const HAS_BYTES = /* sql */ `
  exists (select from apk_chunks c where c.build_id = b.build_id and c.chunk_no = b.chunk_count - 1)`

/** Every column of a build `b`, as `readBuilds` takes them. */
export const COLUMNS = /* sql */ `
  build_id as "buildId", build_type as "buildType", version_code as "versionCode",
  version_name as "versionName", git_sha as "gitSha", ci_run_id as "ciRunId",
  signer_fingerprint as "signerFingerprint", sha256, size_bytes as "sizeBytes",
  to_char(published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "publishedAt",
  published_by as "publishedBy",
  to_char(withdrawn_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "withdrawnAt",
  withdrawn_by as "withdrawnBy", ${HAS_BYTES} as "hasBytes"`

const FIND = /* sql */ `select ${COLUMNS} from apk_builds b where build_id = $1`

/** bigint comes as text; both were safe integers when they were written. */
type Row = Omit<Build, 'versionCode' | 'sizeBytes'> & {
  readonly versionCode: string
  readonly sizeBytes: string
}

/** Also a withdrawn one. */
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
