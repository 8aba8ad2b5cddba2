/**
 * The OAuth access token for FCM. Only this module uses google-auth-library, which signs the assertion and exchanges
 * it. Cache, single flight, deadline and error texts are ours: the library (10.9.1, measured) ignores `token_uri`,
 * throws while an old token is still valid, and lets one hung request block every later caller.
 */
import { createPrivateKey, sign } from 'node:crypto'
import { createRequire } from 'node:module'
import type { ServiceAccount } from '../domain/identity.ts'
import { errorText } from '../lib/error-text.ts'
import { singleFlight, withTimeout } from '../lib/timeouts.ts'
import { createPost, type Post } from './bounded-post.ts'
import { field, parseJson, readBody, safeText } from './fcm-response.ts'
import type { OutboundProxy } from './outbound-proxy.ts'

type TokenAccount = Omit<ServiceAccount, 'projectId'>

export interface AccessTokens {
  /** A valid token. Rejects with AccessTokenError. */
  get(): Promise<string>
  /** A token other than `rejected`, which FCM refused. Callers that refuse the same token share one request. */
  refresh(rejected: string): Promise<string>
  /** Loads the library and signs once, without network, so that a bad key fails at start and not at the first command. */
  checkKey(): Promise<void>
}

/** Its text never contains a key, an assertion or a token. It has no `cause`, because the request would contain them. */
export class AccessTokenError extends Error {
  override readonly name: string = 'AccessTokenError'
  /** The credential or the clock is wrong; a retry cannot help. */
  readonly isPermanent: boolean
  readonly status: 'TIMEOUT' | 'NETWORK'

  constructor(message: string, isPermanent: boolean, status: 'TIMEOUT' | 'NETWORK' = 'NETWORK') {
    super(message)
    this.isPermanent = isPermanent
    this.status = status
  }
}

export interface AccessTokenOptions {
  /** Timeout of one request to the token endpoint, milliseconds. */
  readonly timeoutMs: number
  readonly proxy: OutboundProxy | null
  /** Deadline of a whole exchange with its retry, milliseconds. Default DEADLINE_MS. */
  readonly deadlineMs?: number
  /** Monotonic milliseconds. Default performance.now. */
  readonly nowMs?: () => number
}

const SCOPE = 'https://www.googleapis.com/auth/firebase.messaging'
const DEADLINE_MS = 12_000

/** A token is renewed in the background this long before it expires, or at half its life if that is later. */
const RENEW_BEFORE_MS = 5 * 60_000
/** A token with less time left is not used: it must outlive the request. */
const LEAST_LIFE_MS = 15_000
/** All callers get the error of a failed exchange for this long, so a dead endpoint is not called for every command. */
const FAILURE_CACHE_MS = 1_000

interface Token {
  readonly value: string
  readonly renewAtMs: number
  readonly uselessAtMs: number
}

/**
 * States: no token; fresh; renewing (still used while one exchange runs in the background); useless (as no token). An
 * exchange moves any state to fresh. A failed one leaves the token as it is. `refresh` drops a rejected token.
 */
export function createAccessTokens(
  account: TokenAccount,
  options: AccessTokenOptions,
): AccessTokens {
  const now = options.nowMs ?? (() => performance.now())
  let token: Token | null = null
  let failure: { readonly error: unknown; readonly untilMs: number } | null = null

  const post = createPost(account.tokenUri, { ...options, maxSockets: 1 })
  /** At most one exchange runs at a time. An earlier failure does not apply while it runs. */
  const exchange = singleFlight(() =>
    exchangeAssertion(account, options, post).then(
      ({ value, lifeMs }) => {
        const nowMs = now()
        failure = null
        token = {
          value,
          renewAtMs: nowMs + Math.max(lifeMs - RENEW_BEFORE_MS, lifeMs / 2),
          uselessAtMs: nowMs + lifeMs - LEAST_LIFE_MS,
        }
        return value
      },
      (error: unknown) => {
        failure = { error, untilMs: now() + FAILURE_CACHE_MS }
        throw error
      },
    ),
  )

  function renew(): Promise<string> {
    if (failure !== null && now() < failure.untilMs) return Promise.reject(failure.error)
    return exchange()
  }

  return {
    async get() {
      const nowMs = now()
      if (token === null || nowMs >= token.uselessAtMs) return renew()
      if (nowMs >= token.renewAtMs) renew().catch(() => {}) // the old token is still valid
      return token.value
    },

    async refresh(rejected) {
      if (token !== null && token.value !== rejected) return token.value
      token = null
      return renew()
    },

    async checkKey() {
      await loadLibrary()
      try {
        const key = createPrivateKey(account.privateKey)
        if (key.asymmetricKeyType !== 'rsa') throw new Error('not an RSA key')
        sign('sha256', Buffer.from('self test'), key)
      } catch (error) {
        throw new AccessTokenError(
          `the service account's private key cannot sign (${codeOf(error)}): use the PEM of the JSON file as it is`,
          true,
        )
      }
    },
  }
}

/**
 * Loaded only if push is configured: it blocks the event loop for 51-94 ms and takes 11 MiB, measured here. A deep
 * import would save 15-40 ms and 1 MiB, but its path is not a public API.
 */
const loadLibrary = async (): Promise<typeof import('google-auth-library')> =>
  // Not import(): if node_modules is a symbolic link, every export of the module is undefined in Node 22.23.
  createRequire(import.meta.url)('google-auth-library')

/** Outcome of the last request of an exchange. Kept here because the library's errors contain the assertion. */
type Outcome =
  | { readonly kind: 'responded'; readonly httpCode: number; readonly body: string }
  | { readonly kind: 'failed'; readonly status: 'TIMEOUT' | 'NETWORK'; readonly why: string }

async function exchangeAssertion(
  account: TokenAccount,
  options: AccessTokenOptions,
  post: Post,
): Promise<{ value: string; lifeMs: number }> {
  const { JWT } = await loadLibrary()
  const endsAtMs = performance.now() + (options.deadlineMs ?? DEADLINE_MS)
  let outcome: Outcome | null = null

  /** Sends the request to the account's own token endpoint within the remaining time and reads the whole response. */
  async function request(_googlesUrl: unknown, init: RequestInit = {}): Promise<Response> {
    try {
      const leftMs = Math.max(
        1,
        Math.min(options.timeoutMs, Math.floor(endsAtMs - performance.now())),
      )
      const { headers = {}, body = null } = init
      // It reads any form of headers and body.
      const asked = new Request(account.tokenUri, { method: 'POST', headers, body })
      const fields = Object.fromEntries(asked.headers)
      const { status, text } = await post(
        fields,
        await asked.text(),
        async (response) => ({
          status: response.statusCode ?? 0,
          text: await readBody(response),
        }),
        leftMs,
      )
      outcome = { kind: 'responded', httpCode: status, body: text }
      return new Response(text === '' ? null : text, {
        status,
        headers: { 'content-type': 'application/json' },
      })
    } catch (error) {
      const isTimeout = error instanceof Error && error.name === 'TimeoutError'
      outcome = { kind: 'failed', status: isTimeout ? 'TIMEOUT' : 'NETWORK', why: errorText(error) }
      throw error
    }
  }

  const client = new JWT({
    email: account.clientEmail,
    key: account.privateKey,
    scopes: [SCOPE],
    additionalClaims: { aud: account.tokenUri },
    transporterOptions: {
      fetchImplementation: request,
      retryConfig: { retry: 1, noResponseRetries: 1, retryDelay: 100 },
    },
  })
  try {
    const { token } = await withTimeout(
      client.getAccessToken(),
      endsAtMs - performance.now(),
      () => new AccessTokenError('no access token within the deadline', false, 'TIMEOUT'),
    )
    if (!token) throw new Error('no access_token')
    return { value: token, lifeMs: (client.credentials.expiry_date ?? 0) - Date.now() }
  } catch (error) {
    throw error instanceof AccessTokenError ? error : explain(outcome, account, error)
  }
}

/** 4xx is permanent except for 408 and 429: no error on the library's error page goes away with a retry. */
function explain(outcome: Outcome | null, account: TokenAccount, error: unknown): AccessTokenError {
  const endpoint = `token endpoint ${new URL(account.tokenUri).host}`
  if (outcome === null) {
    return new AccessTokenError(`the assertion could not be signed (${codeOf(error)})`, true)
  }
  if (outcome.kind === 'failed') {
    const what =
      outcome.status === 'TIMEOUT' ? 'did not answer in time' : `is not reachable (${outcome.why})`
    return new AccessTokenError(`${endpoint} ${what}`, false, outcome.status)
  }
  const { httpCode, body } = outcome
  if (httpCode >= 200 && httpCode < 300) {
    return new AccessTokenError(`${endpoint} answered ${httpCode} without an access_token`, false)
  }
  const isPermanent = httpCode < 500 && httpCode !== 408 && httpCode !== 429
  const reason = safeText(oauthReason(body))
  const hint = reason.startsWith('invalid_grant')
    ? "; check this machine's clock, and that the key is neither revoked nor of a deleted account"
    : ''
  return new AccessTokenError(
    `${endpoint} answered ${httpCode} ${reason}${hint}`.trimEnd(),
    isPermanent,
  )
}

/** `error: error_description` (RFC 6749, 5.2); empty if the body has neither. */
function oauthReason(body: string): string {
  const response = parseJson(body)
  return [field(response, 'error'), field(response, 'error_description')]
    .filter((part) => typeof part === 'string')
    .join(': ')
}

/** The code of an error or of its cause (behind `fetch failed`). The message might reveal more than we want to show. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error'
  const code = field(error.cause ?? error, 'code')
  return typeof code === 'string' ? code : error.name
}
