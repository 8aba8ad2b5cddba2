/** The fake FCM's token endpoint: checks the signed assertion as Google does and issues access tokens. */
import { type KeyObject, randomBytes, verify } from 'node:crypto'
import type { FakeResponse } from './responses.ts'

const SCOPE = 'https://www.googleapis.com/auth/firebase.messaging'
const GRANT_TYPE = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
/** Google's tolerance for clock differences and lifetime of an assertion, seconds. */
const SKEW_S = 300
const MAX_LIFE_S = 3600

export interface TokenIssuer {
  /** Responds to the form body of a token request. */
  exchange(form: string): FakeResponse
  isLive(accessToken: string): boolean
  /** Refuses every token issued so far. */
  revokeAll(): void
}

export function createTokenIssuer(account: {
  readonly clientEmail: string
  readonly tokenUri: string
  readonly publicKey: KeyObject
}): TokenIssuer {
  /** Expiry by token, epoch milliseconds. */
  const issued = new Map<string, number>()

  return {
    exchange(form) {
      const fault = faultOf(new URLSearchParams(form), account)
      if (fault !== null) return refusal(400, ...fault)

      const accessToken = `ya29.sim-${randomBytes(24).toString('base64url')}`
      issued.set(accessToken, Date.now() + 3600_000)
      return {
        status: 200,
        json: { access_token: accessToken, expires_in: 3600, token_type: 'Bearer' },
      }
    },
    isLive: (accessToken) => (issued.get(accessToken) ?? 0) > Date.now(),
    revokeAll: () => issued.clear(),
  }
}

/** RFC 6749, 5.2. */
export function refusal(status: number, error: string, description: string): FakeResponse {
  return { status, json: { error, error_description: description } }
}

function faultOf(
  form: URLSearchParams,
  account: {
    readonly clientEmail: string
    readonly tokenUri: string
    readonly publicKey: KeyObject
  },
): [error: string, description: string] | null {
  if (form.get('grant_type') !== GRANT_TYPE) {
    return ['unsupported_grant_type', `Invalid grant_type: ${form.get('grant_type')}`]
  }
  const [head = '', payload = '', signature = '', ...more] = (form.get('assertion') ?? '').split(
    '.',
  )
  const header = parsePart(head)
  const claims = parsePart(payload)
  if (header === null || header.alg !== 'RS256' || claims === null || more.length > 0) {
    return ['invalid_grant', 'Invalid JWT: not an RS256 assertion']
  }
  const text = Buffer.from(`${head}.${payload}`)
  if (!verify('sha256', text, account.publicKey, Buffer.from(signature, 'base64url'))) {
    return ['invalid_grant', 'Invalid JWT Signature.']
  }
  if (claims.iss !== account.clientEmail) {
    return ['invalid_grant', 'Invalid grant: account not found']
  }
  if (claims.aud !== account.tokenUri) return ['invalid_grant', 'Failed audience check.']
  if (!String(claims.scope).split(' ').includes(SCOPE)) {
    return ['invalid_scope', 'Invalid OAuth scope or ID token audience provided.']
  }
  const nowS = Date.now() / 1000
  const iat = Number(claims.iat)
  const exp = Number(claims.exp)
  const isTimely =
    iat < nowS + SKEW_S && exp > nowS - SKEW_S && exp > iat && exp - iat <= MAX_LIFE_S
  return isTimely
    ? null
    : [
        'invalid_grant',
        'Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.',
      ]
}

/** Header or claims of an assertion, not verified yet. */
interface JwtPart {
  readonly alg?: unknown
  readonly iss?: unknown
  readonly aud?: unknown
  readonly scope?: unknown
  readonly iat?: unknown
  readonly exp?: unknown
}

function parsePart(part: string): JwtPart | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' ? value : null
  } catch {
    return null
  }
}
