/**
 * APK builds and their bytes. A build and its 1 MiB chunks are written in one transaction, so a build without bytes
 * only comes from a restore without them; publishing it again restores them. Publishing and withdrawing write their
 * audit row in the same transaction.
 */
import type { ReadAt } from '../../domain/zip.ts'
import type { ListPage } from '../audit.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database } from '../postgres/pool.ts'
import { chunkReader } from './chunks.ts'
import { type PublishOutcome, publishBuild } from './publish.ts'
import {
  type AuditedBy,
  type Build,
  COLUMNS,
  findBuild,
  HAS_BYTES,
  type NewBuild,
  readBuilds,
} from './rows.ts'

export type { AuditedBy, Build, NewBuild, PublishOutcome }

export type WithdrawOutcome =
  | { readonly kind: 'withdrawn'; readonly build: Build }
  | { readonly kind: 'already_withdrawn' }
  | { readonly kind: 'unknown' }

export interface LatestBuild extends Build {
  /** The later of its publication and the last withdrawal of a build of its type. RFC 3339, `Z`. */
  readonly latestSince: string
}

export interface ApkStore {
  /** 503 `overloaded` if another upload of this id does not end; 507 if the database's disk is full. */
  publish(build: NewBuild, readAt: ReadAt, by: AuditedBy): Promise<PublishOutcome>
  /** The build with the highest version code that has its bytes and is not withdrawn. */
  latest(buildType: string): Promise<LatestBuild | undefined>
  /** Finds withdrawn builds too. */
  find(buildId: string): Promise<Build | undefined>
  /** Includes withdrawn builds. */
  list(page: ListPage, buildType?: string): Promise<readonly Build[]>
  withdraw(buildId: string, by: AuditedBy): Promise<WithdrawOutcome>
  /**
   * The bytes from `firstByte` to `lastByte`, inclusive, read as the consumer pulls. Holds no connection between
   * chunks and retries each for some seconds. Throws if a chunk is missing or has the wrong length.
   */
  readChunks(
    build: Pick<Build, 'buildId'>,
    firstByte: number,
    lastByte: number,
  ): AsyncIterable<Buffer>
}

const WITHDRAW = /* sql */ `
  with withdrawn as (
    update apk_builds set withdrawn_at = now(), withdrawn_by = $2
    where build_id = $1 and withdrawn_at is null
    returning *),
  audited as (
    insert into audit_log (admin, what, subject, request_id, ip, detail)
    select withdrawn_by, 'apk.withdraw', build_id, $3, $4,
      jsonb_build_object('build_type', build_type, 'version_code', version_code)
    from withdrawn)
  select ${COLUMNS} from withdrawn b`

const LATEST = /* sql */ `
  select ${COLUMNS},
    to_char(greatest(published_at,
      (select max(w.withdrawn_at) from apk_builds w where w.build_type = b.build_type)
    ) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "latestSince"
  from apk_builds b
  where build_type = $1 and withdrawn_at is null and ${HAS_BYTES}
  order by version_code desc, published_at desc
  limit 1`

const LIST = /* sql */ `
  select ${COLUMNS} from apk_builds b
  where (published_at, build_id) < ($2::timestamptz, $3)
  order by published_at desc, build_id desc
  limit $1`

const LIST_OF_TYPE = /* sql */ `
  select ${COLUMNS} from apk_builds b
  where (published_at, build_id) < ($2::timestamptz, $3) and build_type = $4
  order by published_at desc, build_id desc
  limit $1`

export function apkStore(database: Database): ApkStore {
  return {
    publish: (build, readAt, by) => publishBuild(database, build, readAt, by),

    async latest(buildType) {
      const query = { name: 'apks.latest', text: LATEST, values: [buildType] }
      return (await readBuilds<Pick<LatestBuild, 'latestSince'>>(database, query))[0]
    },

    find: (buildId) => findBuild(database, buildId),

    async list({ limit, after }, buildType) {
      const from = [limit, after?.at ?? 'infinity', after?.id ?? '']
      return await readBuilds(
        database,
        buildType === undefined
          ? { name: 'apks.list', text: LIST, values: from }
          : { name: 'apks.list_of_type', text: LIST_OF_TYPE, values: [...from, buildType] },
      )
    },

    async withdraw(buildId, by) {
      const values = [buildId, by.admin, by.requestId, by.ip]
      const query = { name: 'apks.withdraw', text: WITHDRAW, values }
      const [build] = await readBuilds(database, query)
      if (build !== undefined) return { kind: 'withdrawn', build }
      if ((await findBuild(database, buildId)) === undefined) return { kind: 'unknown' }
      await confirmReplicated(database)
      return { kind: 'already_withdrawn' }
    },

    readChunks: chunkReader(database),
  }
}
