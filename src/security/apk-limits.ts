/**
 * Limits APK downloads per minute and at once, for each credential, for each subnet and in total. Per replica. Counts
 * only proven credentials, so strangers cannot use up anybody's share.
 */
import { AppError } from '../domain/errors.ts'
import type { Downloader } from '../domain/identity.ts'
import { RateLimit } from '../lib/rate-limit.ts'
import { subnetOf } from '../lib/subnet.ts'
import { rateLimited } from './denial.ts'
import { type LiveDownload, LiveDownloads, type Share } from './live-downloads.ts'

/** The settings of these names. */
export interface ApkLimitSettings {
  readonly rateLimitApkPerTokenPerMin: number
  readonly rateLimitApkPerSubnetPerMin: number
  readonly apkMaxDownloads: number
  readonly apkMaxDownloadsPerToken: number
  readonly apkMaxDownloadsPerSubnet: number
}

/** `ip` is null if the client has left already. */
export interface ApkLimits {
  /** Counts a request towards the limits per minute. Throws 429 `rate_limited`. Admins are not limited. */
  readonly limitDownloads: (downloader: Downloader, ip: string | null) => void
  /** Throws what `admitDownload` would throw now. */
  readonly requirePlace: (downloader: Downloader, ip: string | null) => void
  /** Counts a download until it ends. Throws 429 `rate_limited`, or 503 `overloaded` if the total is reached. */
  readonly admitDownload: (downloader: Downloader, ip: string | null) => LiveDownload
}

interface NamedShare extends Share {
  /** The `reason` of its 429; null: it leads to a 503. */
  readonly reason: string | null
}

/** The end of the next download is unknown. */
const RETRY_AFTER_S = 10

/** `nowMs` is monotonic. */
export function createApkLimits(settings: ApkLimitSettings, nowMs: () => number): ApkLimits {
  const { rateLimitApkPerTokenPerMin: perToken, rateLimitApkPerSubnetPerMin: perSubnet } = settings
  const tokens = new RateLimit(perToken)
  const subnets = new RateLimit(perSubnet)
  const live = new LiveDownloads()
  const all: NamedShare = { key: 'all', max: settings.apkMaxDownloads, reason: null }

  function sharesOf(downloader: Downloader, ip: string | null): readonly NamedShare[] {
    const { apkMaxDownloadsPerToken, apkMaxDownloadsPerSubnet } = settings
    // The phones of one token may download together, up to the limit of a subnet.
    const together = Math.min(phonesOf(downloader), apkMaxDownloadsPerSubnet)
    const own = {
      key: keyOf(downloader),
      max: Math.max(apkMaxDownloadsPerToken, together),
      reason: 'apk_at_once_per_token',
    }
    if (ip === null) return [own, all]
    const max = apkMaxDownloadsPerSubnet
    return [own, { key: subnetOf(ip), max, reason: 'apk_at_once_per_subnet' }, all]
  }

  return {
    limitDownloads(downloader, ip) {
      if (downloader.source === 'manual') return
      const tokenId = tokenIdOf(downloader)
      const check = (name: string, whose: string, limit: number, retryAfterS?: number) => {
        if (retryAfterS === undefined) return
        const counts = `downloads of ${whose} within a minute`
        throw rateLimited({ name, limit, used: limit, counts, retryAfterS }, tokenId)
      }
      const phones = phonesOf(downloader)
      const ownS = tokens.take(keyOf(downloader), nowMs(), phones)
      check('apk_per_token', 'this token', perToken * phones, ownS)
      if (ip === null) return
      check('apk_per_subnet', 'your subnet', perSubnet, subnets.take(subnetOf(ip), nowMs()))
    },

    requirePlace(downloader, ip) {
      const exceeded = live.exceeded(sharesOf(downloader, ip))
      if (exceeded !== undefined) throw refusal(exceeded, downloader)
    },

    admitDownload(downloader, ip) {
      const admission = live.admit(sharesOf(downloader, ip))
      if ('exceeded' in admission) throw refusal(admission.exceeded, downloader)
      return admission.download
    },
  }
}

function refusal({ reason, max }: NamedShare, downloader: Downloader): AppError {
  if (reason === null) {
    const message = 'Too many downloads at once. Try again shortly.'
    return new AppError('overloaded', message, { retryAfterS: RETRY_AFTER_S })
  }
  const counts = `downloads at once of ${reason === 'apk_at_once_per_token' ? 'this token' : 'your subnet'}`
  const reached = { name: reason, limit: max, used: max, counts, retryAfterS: RETRY_AFTER_S }
  return rateLimited(reached, tokenIdOf(downloader))
}

/** The same for all tokens of a downloader. The ids are UUIDs of ours. */
function keyOf(downloader: Downloader): string {
  switch (downloader.source) {
    case 'enrollment':
      return `enrollment ${downloader.tokenId}`
    case 'ota':
      return `ota ${downloader.deviceId}`
    case 'manual':
      return `manual ${downloader.admin}`
  }
}

/** How many phones may show this credential. */
function phonesOf(downloader: Downloader): number {
  return downloader.source === 'enrollment' ? downloader.usesAllowed : 1
}

function tokenIdOf(downloader: Downloader): string | null {
  return downloader.source === 'enrollment' ? downloader.tokenId.slice(-4) : null
}
