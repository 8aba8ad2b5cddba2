/**
 * How often an APK may be fetched: by one credential, and by all phones of one subnet together. Only proven credentials
 * are counted, so strangers take nobody's place; per replica.
 */
import type { Downloader } from '../core/identity.ts'
import { RateLimit } from '../core/rate-limit.ts'
import { subnetOf } from '../core/subnet.ts'
import { rateLimited } from './denial.ts'

export interface ApkLimitsOptions {
  /** RATE_LIMIT_APK_PER_TOKEN_PER_MIN. */
  readonly perTokenPerMin: number
  /** RATE_LIMIT_APK_PER_SUBNET_PER_MIN. */
  readonly perSubnetPerMin: number
  /** Monotonic. */
  readonly nowMs: () => number
}

/** Throws 429 `rate_limited`. Admins are not limited. `ip` null: the client has left already. */
export type LimitDownloads = (downloader: Downloader, ip: string | null) => void

export function createApkLimits(options: ApkLimitsOptions): LimitDownloads {
  const tokens = new RateLimit(options.perTokenPerMin)
  const subnets = new RateLimit(options.perSubnetPerMin)

  return (downloader, ip) => {
    if (downloader.source === 'manual') return
    const isEnrolling = downloader.source === 'enrollment'
    const tokenId = isEnrolling ? downloader.tokenId.slice(-4) : null
    const nowMs = options.nowMs()
    const refuse = (reason: string, retryAfterS: number | undefined) => {
      if (retryAfterS !== undefined) throw rateLimited(reason, tokenId, retryAfterS)
    }
    const credential = isEnrolling ? downloader.tokenId : downloader.deviceId // both are UUIDs of ours
    refuse('apk_per_token', tokens.take(credential, nowMs))
    if (ip !== null) refuse('apk_per_subnet', subnets.take(subnetOf(ip), nowMs))
  }
}
