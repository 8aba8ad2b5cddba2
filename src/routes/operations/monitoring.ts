/** GET /healthz, /readyz and /metrics: what a supervisor, a balancer and Prometheus ask. */
import { AppError } from '../../domain/errors.ts'
import { type AdminRoute, json, type OpenRoute } from '../../http/route.ts'

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

/** What keeps the service from serving, and why: `service` while it stops, else the dependency. */
export type Unready = Readonly<Record<string, string>>

/** 200 where the database answers, however busy, else 503 with a reason per dependency. */
export function readyzRoute(deps: { readonly unready: () => Promise<Unready> }): OpenRoute {
  return {
    method: 'GET',
    path: '/readyz',
    guard: 'open',
    body: 0,
    async handle() {
      const reasons = await deps.unready()
      if (Object.keys(reasons).length === 0) return json(200, { status: 'ready' })
      const code = 'service' in reasons ? 'shutting_down' : 'db_unavailable'
      throw new AppError(code, 'Send no requests here now.', { extra: { reasons }, retryAfterS: 1 })
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
    takes: 'anything', // scrapers add parameters of their own; none of them selects anything
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
