/** Push: the key signs, Google gives an access token for it, and FCM accepts a message that it only validates. */
import type { Config } from '../../config/config.ts'
import { createAccessTokens } from '../../push/access-token.ts'
import { createFcmClient } from '../../push/fcm.ts'
import { type Finding, fault, good, skipped } from './finding.ts'

const AREA = 'push'
/** Together less than a check may take. */
const TOKEN_MS = 1_800
const FCM_MS = 2_200

export async function checkPush(config: Config): Promise<Finding> {
  const { serviceAccount, httpsProxy: url, noProxy: except } = config
  if (serviceAccount === null) {
    return skipped(AREA, 'off: without a service account only heartbeats deliver commands')
  }
  const { projectId, clientEmail } = serviceAccount
  const proxy = url === null ? null : { url, except }
  const fcm = createFcmClient({
    baseUrl: config.fcmBaseUrl,
    projectId,
    accessTokens: createAccessTokens(serviceAccount, {
      timeoutMs: TOKEN_MS,
      deadlineMs: TOKEN_MS,
      proxy,
    }),
    timeoutMs: Math.min(config.fcmTimeoutMs, FCM_MS),
    maxSockets: 1,
    ttlS: config.fcmTtlS,
    proxy,
  })
  const outcome = await fcm.selfTest()
  if (outcome === 'ok') return good(AREA, `FCM accepts ${clientEmail} for ${projectId}`)
  const advice = outcome.isTemporary
    ? 'allow this host to reach FCM_BASE_URL and the token endpoint, and repeat'
    : 'give the key file of a service account of this project: docs/operate/push.md'
  return fault(AREA, `FCM does not accept ${clientEmail}: ${outcome.problem}; ${advice}`)
}
