/**
 * APK builds and their bytes. A build and its 1 MiB chunks are written in one transaction, so a build without bytes
 * only comes from a restore without them; publishing it again restores them. Publishing and withdrawing write their
 * audit row in the same transaction.
 */
import type { ApkSource } from '../../domain/apk-source.ts'
import type { AuditWhat } from '../../domain/audit.ts'
import { type ListPage, timeText } from '../list-page.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database } from '../postgres/pool.ts'
import { chunkReader } from './chunks.ts'
import { describeBuild, type PublishOutcome, publishBuild, type Upload } from './publish.ts'
import { type ReleaseOutcome, releaseBuild } from './release.ts'
import { countReported, type Reportable } from './reported.ts'
import {
  type AuditedBy,
  type Build,
  COLUMNS,
  findBuild,
  HAS_BYTES,
  IS_STAGED,
  type NewBuild,
  readBuilds,
} from './rows.ts'

/** Of a build that is not staged. */
const WENT_LIVE_AT = 'coalesce(released_at, published_at)'

export type { AuditedBy, Build, NewBuild, PublishOutcome, ReleaseOutcome, Upload }

export type WithdrawOutcome =
  | { readonly kind: 'withdrawn'; readonly build: Build }
  | { readonly kind: 'already_withdrawn' }
  | { readonly kind: 'unknown' }

export interface LatestBuild extends Build {
  /** When it went live, or when a build of its package and type was last withdrawn, whichever is later. RFC 3339, `Z`. */
  readonly latestSince: string
}

export interface ApkStore {
  /** 503 `overloaded` where another upload of this id does not end; 507 where the database's disk is full. */
  publish(upload: Upload, source: ApkSource, by: AuditedBy): Promise<PublishOutcome>
  /**
   * Makes a staged build live, if its signers are the pinned ones or may replace them: the pinned ones are still those of
   * when an admin accepted its signers, or its proof of rotation names them. Repeatable.
   */
  release(buildId: string, by: AuditedBy): Promise<ReleaseOutcome>
  /**
   * The live build with the highest version code that has its bytes; of several, the one that went live first. Without
   * `packageName`, of `defaultPackage`, or else of the first build that went live; builds whose package is not known count
   * then as well.
   */
  latest(
    buildType: string,
    packageName: string | undefined,
    defaultPackage?: string,
  ): Promise<LatestBuild | undefined>
  /** Also a withdrawn one. */
  find(buildId: string): Promise<Build | undefined>
  /** Includes withdrawn builds. */
  list(page: ListPage, buildType?: string): Promise<readonly Build[]>
  withdraw(buildId: string, by: AuditedBy): Promise<WithdrawOutcome>
  /** How many phones report each build, by its id; without those of which neither package nor version name is known. */
  countReported(builds: readonly Reportable[]): Promise<ReadonlyMap<string, number>>
  /** A build of a former release whose bytes nobody has read yet: live ones first, newest first. */
  nextUnread(): Promise<Build | undefined>
  /** Stores what was read from it. False: somebody else was faster. */
  describe(buildId: string, read: Pick<Upload, 'facts' | 'replaced'>): Promise<boolean>
  /** `reason`: why it cannot be read. It stays as it is otherwise. False: somebody else was faster. */
  markUnreadable(buildId: string, reason: string): Promise<boolean>
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
    where build_id = $1 and (withdrawn_at is null or ${IS_STAGED})
    returning *),
  audited as (
    insert into audit_log (admin, what, subject, request_id, ip, detail)
    select withdrawn_by, '${'apk.withdraw' satisfies AuditWhat}', build_id, $3, $4,
      jsonb_build_object('build_type', build_type, 'version_code', version_code)
    from withdrawn)
  select ${COLUMNS} from withdrawn b`

/**
 * $2: the package; null: $3, else that of the first build that went live, and with it the builds whose package is not known.
 * Among equal version codes, the one that went live first: phones that have it would not install the other.
 */
const LATEST = /* sql */ `
  select ${COLUMNS},
    ${timeText(`greatest(published_at, released_at,
      (select max(w.withdrawn_at) from apk_builds w
       where w.build_type = b.build_type and not w.staged
         and (w.package = b.package or w.package is null or b.package is null)))`)} as "latestSince"
  from apk_builds b
  where build_type = $1 and withdrawn_at is null and ${HAS_BYTES}
    and (package = coalesce($2, $3, (
        select package from apk_builds where package is not null and not staged
        order by ${WENT_LIVE_AT}, build_id limit 1))
      or $2 is null and package is null)
  order by version_code desc, ${WENT_LIVE_AT}, build_id
  limit 1`

const NEXT_UNREAD = /* sql */ `
  select ${COLUMNS} from apk_builds b
  where package is null and unreadable is null and ${HAS_BYTES}
  order by withdrawn_at is not null, published_at desc
  limit 1`

const MARK_UNREADABLE = /* sql */ `
  update apk_builds set unreadable = $2
  where build_id = $1 and package is null and unreadable is null`

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
    publish: (upload, source, by) => publishBuild(database, upload, source, by),

    release: (buildId, by) => releaseBuild(database, buildId, by),

    async latest(buildType, packageName, defaultPackage) {
      const values = [buildType, packageName ?? null, defaultPackage ?? null]
      const query = { name: 'apks.latest', text: LATEST, values }
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

    countReported: (builds) => countReported(database, builds),

    async nextUnread() {
      const query = { name: 'apks.next_unread', text: NEXT_UNREAD, values: [] }
      return (await readBuilds(database, query))[0]
    },

    describe: (buildId, read) => describeBuild(database, buildId, read),

    async markUnreadable(buildId, reason) {
      const values = [buildId, reason]
      const query = { name: 'apks.mark_unreadable', text: MARK_UNREADABLE, values }
      return (await database.query(query)).rowCount === 1
    },

    readChunks: chunkReader(database),
  }
}
