/**
 * The OAuth access token that FCM asks for. The only user of google-auth-library, which signs the assertion and
 * exchanges it; cache, single flight, deadline and texts are ours, because the library (10.9.1, measured) ignores
 * `token_uri`, throws while an old token is still valid, and lets one hung request block every later caller.
 */
import { createPrivateKey, sign } from 'node:crypto'
import { createRequire } from 'node:module'
import { singleFlight } from '../lib/timeouts.ts'
import { field, parseJson, readBody, safeText } from './fcm-response.ts'

/** What this needs of config.ts's ServiceAccount, which fits. */
export interface TokenAccount {
  readonly clientEmail: string
  /** PEM with real newlines. */
  readonly privateKey: string
  /** https, or http to loopback only: the assertion goes there, and is made out to it (`aud`). */
  readonly tokenUri: string
}

export interface AccessTokens {
  /** A token that is valid now. Rejects with AccessTokenError; an aborted `signal` stops the waiting, not the request. */
  get(signal?: AbortSignal): Promise<string>
  /** A token other than `rejected`, which FCM has refused; callers that refuse the same one share a request. */
  refresh(rejected: string, signal?: AbortSignal): Promise<string>
  /** Loads the library and signs once, without network: a bad key fails at start and not at the first command. */
  selfTest(): Promise<void>
}

/** The text never holds a key, an assertion or a token, and there is no `cause`, whose request would hold them. */
export class AccessTokenError extends Error {
  override readonly name: string = 'AccessTokenError'
  /** The credential or its clock is wrong: trying again cannot help. */
  readonly isPermanent: boolean
  readonly status: 'TIMEOUT' | 'NETWORK'

  constructor(message: string, isPermanent: boolean, status: 'TIMEOUT' | 'NETWORK' = 'NETWORK') {
    super(message)
    this.isPermanent = isPermanent
    this.status = status
  }
}

export interface AccessTokenOptions {
  /** Of one request to the token endpoint, milliseconds. */
  readonly timeoutMs: number
  /** Of a whole exchange with its retry, milliseconds; 12 s where not given. */
  readonly deadlineMs?: number
  /** Monotonic, milliseconds; by default performance.now. */
  readonly nowMs?: () => number
}

const SCOPE = 'https://www.googleapis.com/auth/firebase.messaging'
const DEADLINE_MS = 12_000

/** So long before its end a token is renewed in the background (or at half its life, where that is later). */
const RENEW_BEFORE_MS = 5 * 60_000
/** A token that ends sooner is not handed out: it has to live through the request. */
const LEAST_LIFE_MS = 15_000
/** After a failed exchange its error stands this long for all callers: a dead endpoint is not asked for every command. */
const FAILURE_STANDS_MS = 1_000

interface Token {
  readonly value: string
  readonly renewAtMs: number
  readonly uselessAtMs: number
}

/**
 * States: no token; fresh; renewing (still handed out while one exchange runs behind it); useless, which is no token.
 * An exchange moves any of them to fresh; its failure leaves the token as it is; `refresh` drops a refused one.
 */
export function createAccessTokens(
  account: TokenAccount,
  options: AccessTokenOptions,
): AccessTokens {
  const now = options.nowMs ?? (() => performance.now())
  let token: Token | null = null
  let failure: { readonly error: unknown; readonly untilMs: number } | null = null

  /** There is never more than one exchange: while it is under way, no failure of before stands. */
  const exchange = singleFlight(() =>
    exchangeAssertion(account, options).then(
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
        failure = { error, untilMs: now() + FAILURE_STANDS_MS }
        throw error
      },
    ),
  )

  function renew(): Promise<string> {
    if (failure !== null && now() < failure.untilMs) return Promise.reject(failure.error)
    return exchange()
  }

  return {
    async get(signal) {
      const nowMs = now()
      if (token === null || nowMs >= token.uselessAtMs) return abortable(renew(), signal)
      if (nowMs >= token.renewAtMs) renew().catch(() => {}) // the old one serves on; once useless, the error is the caller's
      return token.value
    },

    async refresh(rejected, signal) {
      if (token !== null && token.value !== rejected) return token.value
      token = null
      return abortable(renew(), signal)
    },

    async selfTest() {
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
 * Loaded once push is configured (`selfTest` at start), never for an installation without it: 51-94 ms of a blocked
 * event loop and 11 MiB, measured here. The deep import would save 15-40 ms and 1 MiB, and nobody promises its path.
 */
const loadLibrary = async (): Promise<typeof import('google-auth-library')> =>
  // Not import(): where node_modules is a symbolic link, Node 22.23 gives a module whose every export is undefined.
  createRequire(import.meta.url)('google-auth-library')

/** What the last request of an exchange came to; read here, since the library's errors carry the assertion. */
type Outcome =
  | { readonly kind: 'answered'; readonly httpCode: number; readonly body: string }
  | { readonly kind: 'failed'; readonly status: 'TIMEOUT' | 'NETWORK'; readonly code: string }

async function exchangeAssertion(
  account: TokenAccount,
  options: AccessTokenOptions,
): Promise<{ value: string; lifeMs: number }> {
  const { JWT } = await loadLibrary()
  const endsAtMs = performance.now() + (options.deadlineMs ?? DEADLINE_MS)
  let outcome: Outcome | null = null

  /** Sends the request to the account's own token endpoint, within the time that is left, and reads the answer whole. */
  async function request(_googlesUrl: unknown, init: RequestInit = {}): Promise<Response> {
    try {
      const leftMs = Math.max(
        1,
        Math.min(options.timeoutMs, Math.floor(endsAtMs - performance.now())),
      )
      const { method = 'POST', headers = {}, body = null } = init
      const signal = AbortSignal.timeout(leftMs)
      const response = await fetch(account.tokenUri, {
        method,
        headers,
        body,
        signal,
        redirect: 'manual',
      })
      const text = await readBody(response.body)
      outcome = { kind: 'answered', httpCode: response.status, body: text }
      return new Response(text === '' ? null : text, {
        status: response.status,
        headers: { 'content-type': 'application/json' },
      })
    } catch (error) {
      const isTimeout = error instanceof Error && error.name === 'TimeoutError'
      outcome = { kind: 'failed', status: isTimeout ? 'TIMEOUT' : 'NETWORK', code: codeOf(error) }
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
    const { token } = await within(endsAtMs - performance.now(), client.getAccessToken())
    if (!token) throw new Error('no access_token')
    return { value: token, lifeMs: (client.credentials.expiry_date ?? 0) - Date.now() }
  } catch (error) {
    throw error instanceof AccessTokenError ? error : explain(outcome, account, error)
  }
}

/** 4xx is final but for 408 and 429: the library's page of errors has nothing that a retry mends. */
function explain(outcome: Outcome | null, account: TokenAccount, error: unknown): AccessTokenError {
  const endpoint = `token endpoint ${new URL(account.tokenUri).host}`
  if (outcome === null) {
    return new AccessTokenError(`the assertion could not be signed (${codeOf(error)})`, true)
  }
  if (outcome.kind === 'failed') {
    const what =
      outcome.status === 'TIMEOUT' ? 'did not answer in time' : `is not reachable (${outcome.code})`
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

/** `error: error_description` (RFC 6749, 5.2), empty where the body is something else. */
function oauthReason(body: string): string {
  const answer = parseJson(body)
  return [field(answer, 'error'), field(answer, 'error_description')]
    .filter((part) => typeof part === 'string')
    .join(': ')
}

/** The code of an error or of its cause (`fetch failed` hides it there); its text could hold more than we want to show. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error'
  const code = field(error.cause ?? error, 'code')
  return typeof code === 'string' ? code : error.name
}

/** The library's promise, or its end at our deadline, whatever it may be waiting for. */
async function within<T>(leftMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const end = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new AccessTokenError('no access token within the deadline', false, 'TIMEOUT')),
      Math.max(0, leftMs),
    )
  })
  try {
    return await Promise.race([work, end])
  } finally {
    clearTimeout(timer)
  }
}

/** `work` keeps its handlers when the caller has left: its failure must not become an unhandled rejection. */
function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
