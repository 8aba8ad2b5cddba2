/** GET /openapi.json, /healthz, /readyz and /metrics: for tools, a supervisor, a load balancer and Prometheus. */
import { AppError } from '../../domain/errors.ts'
import { type Endpoint, json } from '../../http/route.ts'
import type { Operations } from './feature.ts'

/** 200 while the event loop turns; never touches the database. */
export function healthzEndpoint({ instanceId, version }: Operations): Endpoint<'open'> {
  return {
    async handle() {
      return json(200, { status: 'ok', instance_id: instanceId(), version })
    },
  }
}

/** 200 while the database responds, however busy it is; else 503 with a reason for each dependency. */
export function readyzEndpoint({ unready }: Operations): Endpoint<'open'> {
  return {
    async handle() {
      const reasons = await unready()
      if (Object.keys(reasons).length === 0) return json(200, { status: 'ready' })
      const code = 'service' in reasons ? 'shutting_down' : 'db_unavailable'
      throw new AppError(code, 'Send no requests here now.', { extra: { reasons }, retryAfterS: 1 })
    },
  }
}

export function openApiEndpoint({ openApi }: Operations): Endpoint<'admin'> {
  return {
    async handle() {
      return { kind: 'text', status: 200, text: openApi, contentType: 'application/json' }
    },
  }
}

export function metricsEndpoint({
  renderMetrics,
  metricsContentType,
}: Operations): Endpoint<'admin'> {
  return {
    async handle() {
      const { text, series } = renderMetrics()
      return {
        kind: 'text',
        status: 200,
        text,
        contentType: metricsContentType,
        line: { event: 'metrics.scrape', fields: { series, bytes: Buffer.byteLength(text) } },
      }
    },
  }
}
