/** Wires what pushes commands: access token, FCM client, dispatcher. */
import type { ServiceAccount } from '../../domain/identity.ts'
import { type AccessTokens, createAccessTokens } from '../../push/access-token.ts'
import { Dispatcher, type DispatcherDeps } from '../../push/dispatcher.ts'
import { createFcmClient, type SelfTestOutcome } from '../../push/fcm.ts'
import type { Metrics } from '../../telemetry/metrics/metrics.ts'
import type { ServiceContext } from '../service-context.ts'
import { StartError } from '../startup.ts'

export interface SenderDeps
  extends Pick<DispatcherDeps, 'outbox' | 'commandKey' | 'commandChanged' | 'reportFailure'> {
  readonly metrics: Pick<Metrics, 'fcmDispatchLatency'>
}

export interface Sender {
  readonly dispatcher: Dispatcher
  /** Throws StartError for a key that cannot sign. Unless FCM_SELF_TEST is off, the dispatcher asks FCM itself when it starts. */
  checkKey(): Promise<void>
}

/** Of one exchange with the token endpoint. */
const TOKEN_TIMEOUT_MS = 5_000

/** undefined: no FCM credentials are configured; push is off, and only heartbeats deliver commands. */
export function createSender(
  context: ServiceContext,
  { metrics, ...deps }: SenderDeps,
): Sender | undefined {
  const { config, logger, newId, now, nowMs, failpoint, printNotice } = context
  const { serviceAccount } = config
  if (serviceAccount === null) return undefined
  const { httpsProxy: url, noProxy: except } = config
  const proxy = url === null ? null : { url, except }
  const accessTokens = createAccessTokens(serviceAccount, { timeoutMs: TOKEN_TIMEOUT_MS, proxy })
  const fcm = createFcmClient({
    baseUrl: config.fcmBaseUrl,
    projectId: serviceAccount.projectId,
    accessTokens,
    timeoutMs: config.fcmTimeoutMs,
    maxSockets: config.fcmMaxInFlight,
    proxy,
    ttlS: config.fcmTtlS,
    onHttpAttempt: (latencyMs, action) => metrics.fcmDispatchLatency(action).observe(latencyMs),
    now,
  })
  const dispatcher = new Dispatcher({
    ...deps,
    fcm,
    log: logger,
    newId,
    random: Math.random,
    now,
    nowMs,
    failpoint,
    maxInFlight: config.fcmMaxInFlight,
    retryBaseMs: config.fcmRetryBaseMs,
    ...(config.fcmSelfTest && { selfTest: () => reported(fcm.selfTest(), printNotice) }),
  })
  return { dispatcher, checkKey: () => checkKey(accessTokens, serviceAccount) }
}

async function reported(
  test: Promise<SelfTestOutcome>,
  printNotice: ServiceContext['printNotice'],
): Promise<SelfTestOutcome> {
  const outcome = await test
  if (outcome !== 'ok') printNotice(`FCM self-test: ${outcome.problem}`)
  return outcome
}

async function checkKey(tokens: AccessTokens, account: ServiceAccount): Promise<void> {
  try {
    await tokens.checkKey()
  } catch (cause) {
    throw new StartError(
      `The private key of ${account.clientEmail} cannot sign. Download the service account file again.`,
      { cause },
    )
  }
}
