/** Which version codes of a heartbeat its device keeps: those of packages that have a build, live or not. */
import { type AppVersions, MAX_APP_VERSIONS } from '../../domain/app-versions.ts'

export function appVersionsText(versions: AppVersions | null): string | null {
  return versions && JSON.stringify(versions)
}

/**
 * SQL of the kept ones as jsonb; `reported` is SQL of a text as appVersionsText writes it. `limit 1` keeps the check of each
 * package a look-up by its index; as a join it would read all builds for each heartbeat.
 */
export const managedVersions = (reported: string) => /* sql */ `(
    select coalesce(jsonb_object_agg(m.key, m.value), '{}') from (
      select e.key, e.value from jsonb_each(${reported}::jsonb) e
      where (select true from apk_builds b where b.package = e.key limit 1)
      order by e.key collate "C" limit ${MAX_APP_VERSIONS}) m)`
