/** What the endpoints of operations use. */
import type { AuditStore } from '../../db/audit.ts'

/** Why the service cannot serve, by dependency; `service` while it stops. */
export type Unready = Readonly<Record<string, string>>

export interface Operations {
  readonly audit: AuditStore
  /** null until the database was first reached. */
  readonly instanceId: () => string | null
  readonly version: string
  /** The text of openapi.json. */
  readonly openApi: string
  readonly unready: () => Promise<Unready>
  /** METRICS_ENABLED; without it /metrics is not found. */
  readonly isMetricsEnabled: boolean
  readonly renderMetrics: () => { readonly text: string; readonly series: number }
  readonly metricsContentType: string
}
