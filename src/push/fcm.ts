/**
 * Sends one message to one device through FCM HTTP v1. Every outcome is a value; `send` never rejects. The dispatcher
 * owns the queue, the pause and the concurrency.
 */

import { isMisnamedFid, type PushId, type PushKind } from '../domain/delivery/push-id.ts'
import { errorText } from '../lib/error-text.ts'
import { AccessTokenError, type AccessTokens } from './access-token.ts'
import { createPost } from './bounded-post.ts'
import {
  classifyFcmResponse,
  type FcmResult,
  noResponse,
  readBody,
  safeText,
} from './fcm-response.ts'
import type { OutboundProxy } from './outbound-proxy.ts'

export interface FcmMessage {
  readonly pushId: PushId
  readonly data: Readonly<Record<string, string>>
  /** FCM does not deliver the message after this instant. */
  readonly expiresAt: Date
}

export type SendOutcome = Attempted & {
  /** How the last attempt addressed the phone, or would have. */
  readonly pushKind: PushKind
}

type Attempted = FcmResult & {
  /** Duration of the last HTTP attempt with its body but without the access token, milliseconds; 0 if there was none. */
  readonly latencyMs: number
  /** Of the last address tried: 0 (no access token, or too large), 1, or 2 (after a 401). */
  readonly httpAttempts: number
}

/** `isTemporary`: it may work later. */
export type SelfTestOutcome = 'ok' | { readonly problem: string; readonly isTemporary: boolean }

export interface FcmClient {
  send(message: FcmMessage): Promise<SendOutcome>
  /** Asks FCM to validate a message to an invalid token. A complaint about that token proves that everything else works. */
  selfTest(): Promise<SelfTestOutcome>
}

export interface FcmClientOptions {
  /** Without a path, such as `https://fcm.googleapis.com`. */
  readonly baseUrl: string
  readonly projectId: string
  readonly accessTokens: Pick<AccessTokens, 'get' | 'refresh'>
  /** Timeout of one HTTP attempt, milliseconds; at least 10 s (firebase.google.com/docs/cloud-messaging/scale-fcm). */
  readonly timeoutMs: number
  /** How long FCM keeps a message at most, seconds. */
  readonly ttlS: number
  /** Called after each HTTP attempt of `send`, also a failed one, with its duration and `data.action`. Must not throw. */
  readonly onHttpAttempt?: (latencyMs: number, action: string) => void
  /** Concurrent connections to FCM; further sends queue. */
  readonly maxSockets: number
  readonly proxy: OutboundProxy | null
  readonly now?: () => Date
}

/** Keys and values of `data`, UTF-8 bytes (ErrorCode page, INVALID_ARGUMENT). */
const MAX_MESSAGE_BYTES = 4096

/** Bytes that count towards MAX_MESSAGE_BYTES. */
export function messageBytes(data: Readonly<Record<string, string>>): number {
  return Object.entries(data).reduce(
    (bytes, [name, value]) => bytes + Buffer.byteLength(name) + Buffer.byteLength(value),
    0,
  )
}

/** `observe` is called after each HTTP attempt with its duration, milliseconds. */
type Delivery = (body: string, observe: (latencyMs: number) => void) => Promise<Attempted>

function createDelivery(options: FcmClientOptions, now: () => Date): Delivery {
  const { accessTokens, timeoutMs } = options
  const base = options.baseUrl.replace(/\/+$/, '')
  const url = `${base}/v1/projects/${encodeURIComponent(options.projectId)}/messages:send`
  const ask = createPost(url, options)

  /** One HTTP attempt, ended early only by its timeout or the network. */
  async function post(accessToken: string, body: string): Promise<FcmResult> {
    try {
      const headers = {
        authorization: `Bearer ${accessToken}`,
        'content-type': 'application/json',
      }
      return await ask(headers, body, async (result) =>
        classifyFcmResponse(
          {
            httpCode: result.statusCode ?? 0,
            body: await readBody(result),
            retryAfter: result.headers['retry-after'] ?? null,
          },
          now(),
        ),
      )
    } catch (error) {
      return networkFailure(error, timeoutMs)
    }
  }

  /** Replaces a rejected access token once. */
  return async (body, observe) => {
    let latencyMs = 0
    let httpAttempts = 0

    async function attempt(accessToken: string): Promise<FcmResult> {
      const startedAtMs = performance.now()
      const result = await post(accessToken, body)
      latencyMs = performance.now() - startedAtMs
      httpAttempts += 1
      observe(latencyMs)
      return result
    }

    try {
      const accessToken = await accessTokens.get()
      let result = await attempt(accessToken)
      if (result.kind === 'unauthenticated') {
        result = await attempt(await accessTokens.refresh(accessToken))
      }
      return { ...result, latencyMs, httpAttempts }
    } catch (error) {
      return { ...noAccessToken(error), latencyMs, httpAttempts }
    }
  }
}

export function createFcmClient(options: FcmClientOptions): FcmClient {
  const { ttlS, now = () => new Date() } = options
  const deliver = createDelivery(options, now)

  return {
    async send({ pushId, data, expiresAt }) {
      const { kind: pushKind } = pushId
      const sizeBytes = messageBytes(data)
      if (sizeBytes > MAX_MESSAGE_BYTES) return { ...tooLarge(sizeBytes), pushKind }

      const leftS = Math.floor((expiresAt.getTime() - now().getTime()) / 1000)
      const ttl = `${Math.max(0, Math.min(ttlS, leftS))}s`
      const { action = '' } = data
      const android = { priority: 'HIGH', ttl }
      async function sendAs(kind: PushKind): Promise<SendOutcome> {
        const body = JSON.stringify({ message: { [kind]: pushId.value, data, android } })
        const attempted = await deliver(body, (latencyMs) =>
          options.onHttpAttempt?.(latencyMs, action),
        )
        return { ...attempted, pushKind: kind }
      }

      const startedAtMs = performance.now()
      const outcome = await sendAs(pushKind)
      if (outcome.kind !== 'token_dead' || !isMisnamedFid(pushId)) return outcome
      if (performance.now() - startedAtMs < SECOND_KIND_WITHIN_MS) return sendAs('fid')
      return { ...outcome, kind: 'retry', retryAfterMs: null }
    },

    async selfTest() {
      const message = { token: SELF_TEST_TOKEN, data: { action: 'self_test' } }
      const body = JSON.stringify({ validate_only: true, message })
      const outcome = await deliver(body, () => {})

      if (outcome.kind === 'sent' || outcome.kind === 'token_dead') return 'ok'
      const code = outcome.fcmHttpCode === null ? '' : ` (HTTP ${outcome.fcmHttpCode})`
      return {
        problem: `${outcome.fcmStatus}${code}: ${outcome.detail}`,
        isTemporary: outcome.kind === 'retry',
      }
    },
  }
}

/** A second send may take 54 s, and the lease lasts 60 s (db/commands/due.ts). */
const SECOND_KIND_WITHIN_MS = 5_000

/** Belongs to nobody. FCM responds with 400, "not a valid FCM registration token". */
const SELF_TEST_TOKEN = 'fleetloop-self-test'

function networkFailure(error: unknown, timeoutMs: number): FcmResult {
  if (error instanceof Error && error.name === 'TimeoutError') {
    return noResponse('TIMEOUT', `FCM did not answer within ${timeoutMs} ms`)
  }
  return noResponse('NETWORK', `FCM is not reachable: ${errorText(error)}`)
}

/** Without an access token the message was not sent, or was rejected with a 401. */
function noAccessToken(error: unknown): FcmResult {
  if (error instanceof AccessTokenError && !error.isPermanent) {
    return noResponse(error.status, error.message)
  }
  return {
    kind: 'misconfigured',
    fcmHttpCode: null,
    fcmStatus: 'UNAUTHENTICATED',
    detail: error instanceof Error ? safeText(error.message) : 'no access token',
  }
}

function tooLarge(sizeBytes: number): Attempted {
  return {
    kind: 'rejected',
    fcmHttpCode: null,
    fcmStatus: 'INVALID_ARGUMENT',
    detail: `message of ${sizeBytes} bytes, FCM takes ${MAX_MESSAGE_BYTES}`,
    latencyMs: 0,
    httpAttempts: 0,
  }
}
