/** Times each admin GET with each filter, on a service with a small installation and one with a large one. */
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { withClient } from '../../testkit/database/postgres.ts'
import { startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import { quantile } from '../../testkit/statistics.ts'
import type { Figure } from '../drill.ts'
import {
  BUILD_TYPE,
  BUSY,
  BUSY_ALIAS,
  deviceId,
  LEFT_ADMIN,
  RARE_ACTION,
  RARE_ADMIN,
  RARE_BUILD,
} from './installation.ts'
import { swept } from './swept.ts'

export interface RequestsOptions {
  /** Per GET and side. */
  readonly requests: number
  readonly dir: string
  readonly print: (line: string) => void
}

const MOST_RATIO = 3
/** Full counts, and selections, which `npm run drill -- selection` times. */
const MAY_GROW = /^\/admin\/(fleet|apk\/builds)|where=/
const LATER = 5_000
const PAGE = 500
const WARM_UP = 20
const DAY_MS = 86_400_000
const STATUSES = ['queued', 'sent', 'delivered', 'push_failed', 'completed', 'expired', 'cancelled']
const ADMINS = ['drill', RARE_ADMIN, LEFT_ADMIN]
const TOKENS = ['active', 'exhausted', 'expired', 'revoked']
const BUILDS = [BUILD_TYPE, RARE_BUILD.type, 'none']

const SELECTIONS = ['label:none=x', 'battery<0', 'alias:S1*', 'open:true', 'online:true -open:true']

const named = (name: string) => [`${name}=${BUSY_ALIAS}`, `${name}=none`]

/** Paths with queries. */
function asked(now: Date): readonly string[] {
  const of = (path: string, ...queries: string[]) => [
    path,
    ...queries.map((query) => `${path}?${query}`),
  ]
  const actions = ['ping', RARE_ACTION.name, 'none']
  const [one, busy, none] = [deviceId(1), deviceId(BUSY), deviceId(0)]
  const sinceDay = `since=${new Date(now.getTime() - DAY_MS).toISOString()}`
  return [
    ...of('/admin/devices', 'limit=500', 'alias=S1000', 'alias=none', 'alias=S1&offline_for_s=60'),
    ...of('/admin/devices', ...[0, 43_200, 604_800].map((s) => `offline_for_s=${s}`)).slice(1),
    ...SELECTIONS.flatMap((where) =>
      ['created', 'alias', 'seen'].map(
        (order) => `/admin/devices?where=${encodeURIComponent(where)}&order=${order}`,
      ),
    ),
    '/admin/fleet',
    ...SELECTIONS.map((where) => `/admin/fleet?where=${encodeURIComponent(where)}`),
    `/admin/devices/${one}`,
    `/admin/devices/${none}`,
    ...of(
      '/admin/commands',
      'limit=500',
      ...actions.map((action) => `action=${action}`),
      ...[one, busy, none].map((id) => `device_id=${id}`),
      `device_id=${busy}&action=none`,
      ...STATUSES.flatMap((status) => [
        `status=${status}`,
        `status=${status}&device_id=${one}`,
        ...actions.map((action) => `status=${status}&action=${action}`),
      ]),
    ),
    ...['done-1', 'open-1', 'none'].map((id) => `/admin/commands/${id}`),
    ...of('/admin/audit', 'limit=500', sinceDay, `${sinceDay}&admin=drill`),
    ...[...ADMINS, 'none'].map((admin) => `/admin/audit?admin=${admin}`),
    ...['subject=done-8', ...named('subject'), 'alias=S1', ...named('alias')].map(
      (query) => `/admin/audit?${query}`,
    ),
    ...['alias=S1', ...named('alias'), `alias=${BUSY_ALIAS}&status=revoked`].map(
      (query) => `/v1/enroll-tokens?${query}`,
    ),
    ...of('/v1/enroll-tokens', 'limit=500', ...TOKENS.map((status) => `status=${status}`)),
    ...of('/admin/events', 'after=now', 'types=build.withdrawn', 'limit=500'),
    ...of('/admin/apk/builds', ...BUILDS.map((type) => `build_type=${type}`)),
    '/metrics',
    '/readyz',
  ]
}

/** Lists whose page LATER rows behind the first is requested. */
const DEEP = [
  '/admin/devices',
  '/admin/commands',
  '/admin/commands?status=completed',
  '/admin/audit',
  '/v1/enroll-tokens',
]

export async function timeRequests(
  urls: { readonly small: string; readonly large: string },
  options: RequestsOptions,
): Promise<readonly Figure[]> {
  const small = await startSide(urls.small, join(options.dir, 'small'))
  const large = await startSide(urls.large, join(options.dir, 'large'))
  try {
    return compared(await measure([small, large], options.requests), options)
  } finally {
    await Promise.all([small, large].map(({ stop }) => stop()))
  }
}

function compared(
  timed: ReadonlyMap<string, readonly [Timed, Timed]>,
  options: RequestsOptions,
): readonly Figure[] {
  options.print(
    `\n| ${options.requests} of each, ms | small p50 | p95 | large p50 | p95 | ratio of p95 |`,
  )
  options.print('| --- | --- | --- | --- | --- | --- |')
  return [...timed].map(([name, [one, other]]) => {
    const ratio = other.p95 / one.p95
    const figures = [one.p50, one.p95, other.p50, other.p95, ratio].map((figure) =>
      figure.toFixed(2),
    )
    options.print(`| \`${name}\` | ${figures.join(' | ')} |`)
    const mayGrow = MAY_GROW.test(name)
    const most = mayGrow
      ? 'answered, in a time that grows'
      : `p95 at most ${MOST_RATIO} × that of a small installation`
    return {
      promise: `GET ${name}: ${most}`,
      measured: `p50 ${figures[0]} → ${figures[2]} ms, p95 ${figures[1]} → ${figures[3]} ms: ${figures[4]} ×, answers ${other.statuses}`,
      isHeld: (mayGrow || ratio <= MOST_RATIO) && one.statuses === other.statuses,
      isTimed: true,
    }
  })
}

interface Timed {
  readonly p50: number
  readonly p95: number
  readonly statuses: string
}

/** A service with one of the installations, and a connection to it. */
interface Side {
  readonly origin: string
  readonly agent: Agent
  stop(): Promise<void>
}

async function startSide(url: string, dataDir: string): Promise<Side> {
  const life = startReplica({ settings: serviceSettings(url, dataDir) })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const stop = async () => {
    agent.destroy()
    await life.stop()
  }
  try {
    const origin = await life.ready
    await withClient(url, swept)
    return { origin, agent, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function measure(
  sides: readonly [Side, Side],
  requests: number,
): Promise<ReadonlyMap<string, readonly [Timed, Timed]>> {
  const times = new Map<string, readonly [Timed, Timed]>()
  for (const path of asked(new Date())) {
    times.set(path, await inTurn(sides, [path, path], requests))
  }
  for (const path of DEEP) {
    const deep = async (side: Side) => withQuery(path, `cursor=${await deepCursor(side, path)}`)
    const paths = [await deep(sides[0]), await deep(sides[1])] as const
    times.set(`${path}, ${LATER} rows on`, await inTurn(sides, paths, requests))
  }
  return times
}

/** Alternates the sides, so that both meet the same machine; the first WARM_UP do not count. */
async function inTurn(
  [small, large]: readonly [Side, Side],
  [smallPath, largePath]: readonly [string, string],
  requests: number,
): Promise<readonly [Timed, Timed]> {
  const ofSmall = createTimes()
  const ofLarge = createTimes()
  for (let nth = -WARM_UP; nth < requests; nth += 1) {
    await ofSmall.time(small, smallPath, nth >= 0)
    await ofLarge.time(large, largePath, nth >= 0)
  }
  return [ofSmall.result(), ofLarge.result()]
}

function createTimes() {
  const times: number[] = []
  const statuses = new Set<number>()
  return {
    async time({ agent, origin }: Side, path: string, isCounted: boolean): Promise<void> {
      const startedAtMs = performance.now()
      const { status } = await get(agent, origin + path)
      if (!isCounted) return
      times.push(performance.now() - startedAtMs)
      statuses.add(status)
    },
    result(): Timed {
      const [p50, p95] = [quantile(times, 0.5), quantile(times, 0.95)]
      return { p50, p95, statuses: [...statuses].sort().join(' ') }
    },
  }
}

/** The cursor LATER rows on, or the last one of a shorter list. */
async function deepCursor({ agent, origin }: Side, path: string): Promise<string> {
  let cursor = ''
  for (let rows = 0; rows < LATER; rows += PAGE) {
    const query = cursor === '' ? `limit=${PAGE}` : `limit=${PAGE}&cursor=${cursor}`
    const { body } = await get(agent, `${origin}${withQuery(path, query)}`)
    const next = /"next_cursor":"([^"]+)"/.exec(body)?.[1]
    if (next === undefined) break
    cursor = next
  }
  return cursor
}

const withQuery = (path: string, query: string) =>
  `${path}${path.includes('?') ? '&' : '?'}${query}`

function get(agent: Agent, url: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}` }
    request(url, { agent, headers }, (incoming) => {
      let body = ''
      incoming.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, body }))
      incoming.on('error', reject)
    })
      .on('error', reject)
      .end()
  })
}
