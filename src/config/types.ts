/** The settings of one process as they are after parsing. Names carry units. */

import type { RetentionOptions } from '../db/retention.ts'
import type { AdminScope } from '../domain/identity.ts'
import type { UnknownVariable } from './unknown-variables.ts'

export interface AdminToken {
  readonly name: string
  readonly scopes: readonly AdminScope[]
  readonly secret: string
}

/** One server secret for device tokens and command keys. The first of the list signs, all verify. */
export interface HmacSecret {
  /** `default` where HMAC_SECRET names none. Remembered in `devices.hmac_secret_id`. */
  readonly id: string
  readonly secret: string
}

export interface ServiceAccount {
  readonly projectId: string
  readonly clientEmail: string
  /** PEM with real newlines. */
  readonly privateKey: string
  /** https, or http to loopback only. */
  readonly tokenUri: string
}

export interface Config {
  readonly isProduction: boolean
  readonly port: number
  readonly host: string
  /** null: the embedded PostgreSQL under dataDir (never in production). */
  readonly databaseUrl: string | null
  readonly migrateDatabaseUrl: string | null
  readonly databasePoolMax: number
  readonly isDatabasePrepared: boolean
  readonly allowUnsafeDatabase: boolean
  /** Without TLS that verifies, also to another host in production. */
  readonly allowPlaintextDatabase: boolean
  /** Absolute path. */
  readonly dataDir: string
  readonly adminTokens: readonly AdminToken[]
  readonly hmacSecrets: readonly HmacSecret[]
  readonly adminHmacSecret: string | null
  readonly requireSignedResults: boolean
  /** null: push is off, the mailbox alone delivers. */
  readonly serviceAccount: ServiceAccount | null
  readonly fcmBaseUrl: string
  readonly fcmTtlS: number
  readonly fcmTimeoutMs: number
  readonly fcmRetryBaseMs: number
  readonly fcmMaxInFlight: number
  readonly fcmSelfTest: boolean
  readonly commandActions: readonly string[]
  /** 0 stores every heartbeat. */
  readonly heartbeatDedupWindowS: number
  readonly heartbeatIntervalS: number
  readonly heartbeatRetentionDays: number
  readonly retention: Omit<RetentionOptions, 'signatureS'>
  readonly deviceOfflineS: number
  readonly apkDefaultBuildType: string
  readonly apkMaxBytes: number
  readonly apkCacheBytes: number
  readonly apkMaxDownloads: number
  readonly apkMaxDownloadsPerToken: number
  readonly apkMaxDownloadsPerSubnet: number
  readonly logLevel: 'DEBUG' | 'INFO' | 'WARN' | 'ERROR' | 'OFF'
  readonly logBufferBytes: number
  readonly isMetricsEnabled: boolean
  readonly metricsStatus: 'coarse' | 'exact'
  readonly requireHttps: boolean
  /** CIDRs, a bare address means itself. */
  readonly trustedProxies: readonly string[]
  readonly plaintextOkCidrs: readonly string[]
  readonly rateLimitTokensPerHour: number
  readonly rateLimitApkPerTokenPerMin: number
  readonly rateLimitApkPerSubnetPerMin: number
  readonly shutdownDrainMs: number
  readonly shutdownGraceMs: number
  /** Set for us by mistake, as it seems. */
  readonly unknownVariables: readonly UnknownVariable[]
}
