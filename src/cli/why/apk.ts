/** The live APK of each package and build type. */
import type { Api } from '../api/client.ts'
import type { Build } from '../api/openapi.ts'
import { pages } from '../api/pages.ts'
import { ago } from '../terminal/ago.ts'
import { plain } from '../terminal/text.ts'

/** In a fleet with more, the newest count. */
const MAX_BUILDS = 10_000

export async function describeLiveApk(api: Api): Promise<readonly string[]> {
  const live = await liveBuilds(api)
  if (live.length === 0) return ['live APK: none, downloads are 404 apk_none']
  const isOnePackage = new Set(live.map((build) => build.package)).size === 1
  return live.map((build) => {
    const { build_id, build_type, version_code, version_name, published_at, published_by } = build
    const kind = isOnePackage ? build_type : nameOf(build)
    const version = version_name === null ? version_code : `${version_code} (${version_name})`
    const published = `published by ${published_by} ${ago(published_at, api.now())}`
    return plain(`live APK, ${kind}: ${build_id}, version ${version}, ${published}`)
  })
}

/** The one that phones get, of each package and build type. */
export async function liveBuilds(api: Api): Promise<readonly Build[]> {
  const live = new Map<string, Build>()
  for (const build of await readBuilds(api)) {
    const name = nameOf(build)
    const other = live.get(name)
    if (other === undefined || isLatest(build, other)) live.set(name, build)
  }
  return [...live.values()]
}

/** Among equal version codes the one that went live first. */
function isLatest(build: Build, other: Build): boolean {
  if (build.version_code !== other.version_code) return build.version_code > other.version_code
  return wentLiveAt(build) < wentLiveAt(other)
}

function wentLiveAt({ released_at, published_at }: Build): string {
  return released_at ?? published_at
}

function nameOf({ package: name, build_type }: Build): string {
  return name === null ? build_type : `${name} ${build_type}`
}

/** Builds that a phone could get. */
async function readBuilds(api: Api): Promise<readonly Build[]> {
  const builds: Build[] = []
  for await (const { items } of pages(api, 'listBuilds', 'builds', {}, MAX_BUILDS)) {
    builds.push(...items)
  }
  return builds.filter(({ state, has_bytes }) => state === 'live' && has_bytes)
}
