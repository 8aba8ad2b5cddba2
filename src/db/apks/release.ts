/** Makes a staged build live, and its signers the pinned ones if it may replace those. One transaction. */
import type { ApkFacts } from '../../domain/apk-facts.ts'
import type { AuditWhat } from '../../domain/audit.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database, Queryable } from '../postgres/pool.ts'
import { type AuditedBy, type Build, COLUMNS, findBuild, IS_STAGED, readBuilds } from './rows.ts'
import { pinSigners, SignerChanged } from './signer-pins.ts'

export type ReleaseOutcome =
  | { readonly kind: 'released' | 'already_live'; readonly build: Build }
  /** Other signers are pinned by now. */
  | {
      readonly kind: 'signer_changed'
      readonly facts: ApkFacts
      readonly pinned: readonly string[]
    }
  | { readonly kind: 'withdrawn' }
  | { readonly kind: 'unknown' }

const RELEASE = /* sql */ `
  update apk_builds b set staged = false, withdrawn_at = null, released_at = now()
  where build_id = $1 and ${IS_STAGED}
  returning ${COLUMNS}, replaces`

const AUDIT = /* sql */ `
  insert into audit_log (admin, what, subject, request_id, ip, detail)
  select $2, '${'apk.release' satisfies AuditWhat}', build_id, $3, $4,
    jsonb_build_object('build_type', build_type, 'version_code', version_code, 'package', package,
      'signers', signers, 'replaced_signers', $5::text[])
  from apk_builds where build_id = $1`

/** See ApkStore.release. */
export async function releaseBuild(
  database: Database,
  buildId: string,
  by: AuditedBy,
): Promise<ReleaseOutcome> {
  try {
    return await database.transaction((tx) => releaseOnce(tx, buildId, by))
  } catch (error) {
    if (!(error instanceof SignerChanged)) throw error
    const facts = (await findBuild(database, buildId))?.facts
    if (!facts) throw error
    return { kind: 'signer_changed', facts, pinned: error.pinned }
  }
}

async function releaseOnce(tx: Queryable, buildId: string, by: AuditedBy): Promise<ReleaseOutcome> {
  const release = { name: 'apks.release', text: RELEASE, values: [buildId] }
  const [build] = await readBuilds<{ replaces: readonly string[] | null }>(tx, release)
  if (build === undefined) return await notStaged(tx, buildId)
  const { facts, replaces } = build
  const mayReplace = (pinned: readonly string[]) => replaces?.includes(pinned.join()) === true
  const replaced = facts && (await pinSigners(tx, { ...facts, buildId, mayReplace }, true))
  const values = [buildId, by.admin, by.requestId, by.ip, replaced]
  await tx.query({ name: 'apks.audit_release', text: AUDIT, values })
  return { kind: 'released', build }
}

async function notStaged(tx: Queryable, buildId: string): Promise<ReleaseOutcome> {
  const build = await findBuild(tx, buildId)
  if (build === undefined) return { kind: 'unknown' }
  if (build.state === 'withdrawn') return { kind: 'withdrawn' }
  await confirmReplicated(tx)
  return { kind: 'already_live', build }
}
