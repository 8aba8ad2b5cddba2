/** The live APK of each package and build type. */
import { ago } from './ago.ts'
import { type Api, plain } from './api.ts'

/** From GET /admin/apk/builds. */
interface Build {
  readonly build_id: string
  readonly build_type: string
  /** null: not known. */
  readonly package: string | null
  readonly state: string
  readonly published_at: string
  readonly released_at: string | null
  readonly version_code: number
  readonly version_name: string | null
  readonly published_by: string
  readonly has_bytes: boolean
}

/** 10,000 builds. In a fleet with more, the newest count. */
const MAX_PAGES = 20

export async function describeLiveApk(api: Api): Promise<readonly string[]> {
  const live = new Map<string, Build>()
  for (const build of await readBuilds(api)) {
    const name = nameOf(build)
    const other = live.get(name)
    if (other === undefined || isLatest(build, other)) live.set(name, build)
  }
  if (live.size === 0) return ['live APK: none, downloads are 404 apk_none']
  const isOnePackage = new Set([...live.values()].map((build) => build.package)).size === 1
  return [...live.values()].map((build) => {
    const { build_id, build_type, version_code, version_name, published_at, published_by } = build
    const kind = isOnePackage ? build_type : nameOf(build)
    const version = version_name === null ? version_code : `${version_code} (${version_name})`
    const published = `published by ${published_by} ${ago(published_at, api.now())}`
    return plain(`live APK, ${kind}: ${build_id}, version ${version}, ${published}`)
  })
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
  let cursor: string | null = ''
  for (let pages = 0; cursor !== null && pages < MAX_PAGES; pages += 1) {
    const path: string = `/admin/apk/builds?limit=500${cursor && `&cursor=${cursor}`}`
    const page = await api.get<{ builds: readonly Build[]; next_cursor: string | null }>(path)
    builds.push(...(page?.builds ?? []))
    cursor = page?.next_cursor ?? null
  }
  return builds.filter(({ state, has_bytes }) => state === 'live' && has_bytes)
}
