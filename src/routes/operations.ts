/** GET /healthz, /readyz and /metrics: what a supervisor, a balancer and Prometheus ask. */
import type { AdminRoute, OpenRoute } from '../http/route.ts'
import { json } from '../http/route.ts'

export interface HealthzDeps {
  /** null until the database was first reached. */
  readonly instanceId: () => string | null
  readonly version: string
}

/** 200 while the event loop turns; never touches the database. */
export function healthzRoute(deps: HealthzDeps): OpenRoute {
  return {
    method: 'GET',
    path: '/healthz',
    guard: 'open',
    body: 0,
    async handle() {
      return json(200, { status: 'ok', instance_id: deps.instanceId(), version: deps.version })
    },
  }
}

/** A dependency that keeps the service from serving, and why. */
export type Unready = Readonly<Record<string, string>>

/** 200 when requests would succeed, else 503 with a reason per dependency. */
export function readyzRoute(deps: { readonly unready: () => Promise<Unready> }): OpenRoute {
  return {
    method: 'GET',
    path: '/readyz',
    guard: 'open',
    body: 0,
    async handle() {
      const reasons = await deps.unready()
      if (Object.keys(reasons).length === 0) return json(200, { status: 'ready' })
      return {
        ...json(503, { status: 'not_ready', reasons }),
        headers: { 'retry-after': '1' },
      }
    },
  }
}

export interface MetricsDeps {
  readonly render: () => { readonly text: string; readonly series: number }
  readonly metricsContentType: string
}

export function metricsRoute(deps: MetricsDeps): AdminRoute {
  return {
    method: 'GET',
    path: '/metrics',
    guard: 'admin',
    scopes: ['metrics'],
    body: 0,
    async handle() {
      const { text, series } = deps.render()
      return {
        kind: 'text',
        status: 200,
        text,
        contentType: deps.metricsContentType,
        line: { event: 'metrics.scrape', fields: { series, bytes: Buffer.byteLength(text) } },
      }
    },
  }
}
