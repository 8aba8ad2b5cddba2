/** The parts that push, wired together: access token, FCM client, dispatcher. */
import type { Config, ServiceAccount } from '../config/config.ts'
import { type AccessTokens, createAccessTokens } from '../push/access-token.ts'
import { Dispatcher, type DispatcherDeps } from '../push/dispatcher.ts'
import { createFcmClient } from '../push/fcm.ts'
import { StartError } from './startup.ts'

export interface SenderDeps
  extends Pick<
    DispatcherDeps,
    | 'outbox'
    | 'commandKey'
    | 'log'
    | 'newId'
    | 'random'
    | 'now'
    | 'nowMs'
    | 'commandChanged'
    | 'reportFailure'
    | 'failpoint'
  > {
  readonly observeLatency: (latencyMs: number, action: string) => void
}

export interface Sender {
  readonly dispatcher: Dispatcher
  /** Throws StartError for a key that cannot sign. FCM itself is asked once the dispatcher starts, where FCM_SELF_TEST wants it. */
  selfTest(): Promise<void>
}

/** Of one exchange with the token endpoint. */
const TOKEN_TIMEOUT_MS = 5_000

/** undefined: no FCM credentials, push is off and the mailbox alone delivers. */
export function createSender(config: Config, deps: SenderDeps): Sender | undefined {
  const { serviceAccount } = config
  if (serviceAccount === null) return undefined
  const accessTokens = createAccessTokens(serviceAccount, { timeoutMs: TOKEN_TIMEOUT_MS })
  const fcm = createFcmClient({
    baseUrl: config.fcmBaseUrl,
    projectId: serviceAccount.projectId,
    accessTokens,
    timeoutMs: config.fcmTimeoutMs,
    maxSockets: config.fcmMaxInFlight,
    ttlS: config.fcmTtlS,
    onHttpAttempt: deps.observeLatency,
    now: deps.now,
  })
  const dispatcher = new Dispatcher({
    ...deps,
    fcm,
    maxInFlight: config.fcmMaxInFlight,
    retryBaseMs: config.fcmRetryBaseMs,
    ...(config.fcmSelfTest && { selfTest: fcm.selfTest }),
  })
  return { dispatcher, selfTest: () => provesItsKey(accessTokens, serviceAccount) }
}

async function provesItsKey(tokens: AccessTokens, account: ServiceAccount): Promise<void> {
  try {
    await tokens.selfTest()
  } catch (cause) {
    throw new StartError(
      `The private key of ${account.clientEmail} cannot sign. Download the service account file again.`,
      { cause },
    )
  }
}
