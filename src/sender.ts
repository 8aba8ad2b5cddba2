/** The parts that push, wired together: access token, FCM client, dispatcher. */
import type { Config, ServiceAccount } from './config.ts'
import { type AccessTokens, createAccessTokens } from './push/access-token.ts'
import { Dispatcher, type DispatcherDeps } from './push/dispatcher.ts'
import { createFcmClient, type FcmClient } from './push/fcm.ts'
import { StartError } from './startup.ts'
import { BACKGROUND } from './telemetry/events.ts'

export interface SenderDeps
  extends Pick<
    DispatcherDeps,
    'outbox' | 'commandKey' | 'log' | 'newId' | 'random' | 'now' | 'onRecorded'
  > {
  readonly observeLatency: (latencyMs: number, action: string) => void
}

export interface Sender {
  readonly dispatcher: Dispatcher
  /** Throws StartError for a key that cannot sign; with FCM_SELF_TEST what FCM thinks of us becomes a line. */
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
    ttlS: config.fcmTtlS,
    onHttpAttempt: deps.observeLatency,
    now: deps.now,
  })
  const dispatcher = new Dispatcher({
    ...deps,
    fcm,
    maxInFlight: config.fcmMaxInFlight,
    retryBaseMs: config.fcmRetryBaseMs,
  })
  return {
    dispatcher,
    async selfTest() {
      await provesItsKey(accessTokens, serviceAccount)
      if (config.fcmSelfTest) await reportSelfTest(fcm, deps)
    },
  }
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

async function reportSelfTest(fcm: FcmClient, deps: SenderDeps): Promise<void> {
  const outcome = await fcm.selfTest()
  if (outcome === 'ok') return
  const reason = `self-test: ${outcome.problem}`
  deps.log.write({ event: 'push.paused', fields: { reason } }, BACKGROUND)
}
