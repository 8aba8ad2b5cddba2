/**
 * How many phones report a build: by its package and version code; those that report no version code of its package, by its
 * version name as their `app_version`. Where such a phone reports a `version_code` too, that must be the build's.
 */
import { APP_VERSION, JOINED } from '../devices/lists.ts'
import type { Database } from '../postgres/pool.ts'
import type { Build } from './rows.ts'

export type Reportable = Pick<Build, 'buildId' | 'versionCode' | 'versionName' | 'facts'>

/** $1: packages, $2: version codes, $3: version names. */
const IS_NAMED = /* sql */ `name = any ($3::text[]) and (code is null or code = any ($2::bigint[]))`
/** Linear in the phones. A row is a part of the count of each build that has what it names; the last ones are subtracted. */
const COUNT = /* sql */ `
  with phones as materialized (
    select ${APP_VERSION} as name, s.version_code as code, s.app_versions as apps, count(*) as devices
    from ${JOINED}
    where d.deleted_at is null and (${APP_VERSION} = any ($3::text[]) or s.app_versions ?| $1::text[])
    group by 1, 2, 3),
  apps as materialized (
    select e.key as package, e.value::bigint as app_code, p.name, p.code, p.devices
    from phones p cross join lateral jsonb_each(p.apps) e where e.key = any ($1::text[]))
  select null as "package", name as "name", code as "code", sum(devices)::int as "devices"
  from phones where ${IS_NAMED} group by 1, 2, 3
  union all
  select package, null, app_code, sum(devices)::int
  from apps where app_code = any ($2::bigint[]) group by 1, 2, 3
  union all
  select package, name, code, -sum(devices)::int
  from apps where ${IS_NAMED} group by 1, 2, 3`

interface Row {
  readonly package: string | null
  readonly name: string | null
  readonly code: string | null
  readonly devices: number
}

/** By build id. A build has no number while neither its package nor its version name is known. */
export async function countReported(
  database: Database,
  builds: readonly Reportable[],
): Promise<ReadonlyMap<string, number>> {
  const values = [
    builds.flatMap(({ facts }) => facts?.packageName ?? []),
    builds.map(({ versionCode }) => versionCode),
    builds.flatMap(({ versionName }) => versionName ?? []),
  ].map((column) => [...new Set<string | number>(column)])
  const query = { name: 'apks.count_reported', text: COUNT, values }
  const { rows } = await database.query<Row>(query)
  const counts = new Map(
    rows.map(({ package: name, ...row }) => [keyOf(name, row.name, row.code), row.devices]),
  )
  const known = builds.filter(({ facts, versionName }) => facts !== null || versionName !== null)
  return new Map(known.map((build) => [build.buildId, devicesOf(build, counts)]))
}

function devicesOf(
  { versionCode, versionName: name, facts }: Reportable,
  counts: ReadonlyMap<string, number>,
): number {
  const code = String(versionCode)
  const packageName = facts?.packageName ?? null
  const keys = [
    keyOf(packageName, null, code),
    ...[null, packageName].flatMap((of) => [keyOf(of, name, null), keyOf(of, name, code)]),
  ]
  return [...new Set(keys)].reduce((sum, key) => sum + (counts.get(key) ?? 0), 0)
}

function keyOf(packageName: string | null, name: string | null, code: string | null): string {
  return JSON.stringify([packageName, name, code])
}
