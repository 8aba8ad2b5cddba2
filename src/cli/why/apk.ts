/** The live APK of each build type. */
import { ago } from './ago.ts'
import { type Api, plain } from './api.ts'

/** From GET /admin/apk/builds. */
interface Build {
  readonly build_id: string
  readonly build_type: string
  readonly version_code: number
  readonly version_name: string | null
  readonly published_at: string
  readonly published_by: string
  readonly withdrawn_at: string | null
  readonly has_bytes: boolean
}

/** 10,000 builds. In a fleet with more, the newest count. */
const MAX_PAGES = 20

export async function describeLiveApk(api: Api): Promise<readonly string[]> {
  const live = new Map<string, Build>()
  for (const build of await readBuilds(api)) {
    const other = live.get(build.build_type)
    // Newest first: among equal version codes the one published last wins.
    if (other === undefined || build.version_code > other.version_code) {
      live.set(build.build_type, build)
    }
  }
  if (live.size === 0) return ['live APK: none, downloads are 404 apk_none']
  return [...live.values()].map((build) => {
    const { build_id, build_type, version_code, version_name, published_at, published_by } = build
    const version = version_name === null ? version_code : `${version_code} (${version_name})`
    const published = `published by ${published_by} ${ago(published_at, api.now())}`
    return plain(`live APK, ${build_type}: ${build_id}, version ${version}, ${published}`)
  })
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
  return builds.filter(({ withdrawn_at, has_bytes }) => withdrawn_at === null && has_bytes)
}
