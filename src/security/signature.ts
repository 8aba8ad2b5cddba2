/**
 * X-Signature: t=<unix seconds>,v1=<hex>: HMAC-SHA256 of a request (docs/device-protocol.md has the text that is
 * signed). Admins sign with ADMIN_HMAC_SECRET, devices sign their results with their hmac_key.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { Denial } from './denial.ts'

/** The signed parts of a request, as received. */
export interface SignedRequest {
  /** The X-Signature header. */
  readonly header: string | undefined
  readonly method: string
  /** Raw path and query. */
  readonly url: string
  /** The X-Request-ID header, or empty. */
  readonly requestIdHeader: string
  /** Lower-case hex SHA-256 of the body. For a PUT, the value of X-APK-SHA256, or empty. */
  readonly bodySha256: string
}

export type SignatureVerdict =
  | { readonly kind: 'valid'; readonly signature: Buffer }
  | { readonly kind: 'invalid'; readonly reason: SignatureFault }

type SignatureFault = 'missing' | 'malformed' | 'stale' | 'replayed' | 'mismatch'

/** A signature is valid this long before and after its own time. */
export const SIGNATURE_WINDOW_S = 120
/** A used one is kept longer than it is valid, or it could be used again. */
export const SIGNATURE_KEPT_S = 3 * SIGNATURE_WINDOW_S

const HEADER = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/

export function checkSignature(
  request: SignedRequest,
  key: string,
  nowS: number,
): SignatureVerdict {
  // A signature that covers no body would allow any body.
  if (request.header === undefined || request.bodySha256 === '') {
    return { kind: 'invalid', reason: 'missing' }
  }
  const match = HEADER.exec(request.header)
  if (match === null) return { kind: 'invalid', reason: 'malformed' }
  const [, timeS = '', hex = ''] = match
  if (Math.abs(nowS - Number(timeS)) > SIGNATURE_WINDOW_S) {
    return { kind: 'invalid', reason: 'stale' }
  }
  const { method, url, requestIdHeader, bodySha256 } = request
  const text = [timeS, method, url, requestIdHeader, bodySha256].join('\n')
  const expected = createHmac('sha256', key).update(text).digest()
  const signature = Buffer.from(hex, 'hex')
  return timingSafeEqual(expected, signature)
    ? { kind: 'valid', signature }
    : { kind: 'invalid', reason: 'mismatch' }
}

export interface SignatureRules {
  /** ADMIN_HMAC_SECRET; null: admin requests need no signature. */
  readonly adminSecret: string | null
  /** REQUIRE_SIGNED_RESULTS. */
  readonly requireSignedResults: boolean
  /** False: some replica accepted the same signature before. */
  readonly remember: (signature: Buffer) => Promise<boolean>
  readonly now: () => Date
}

export interface Signatures {
  /** Throws a Denial unless a change by an admin has a fresh signature that was not used before. */
  verifyAdmin(request: SignedRequest): Promise<void>
  /** The refusal of an invalid signature, or of a missing one if required. The route handles a repeat as a duplicate. */
  resultDenial(request: SignedRequest, hmacKey: () => string): Denial | undefined
}

export function createSignatures(rules: SignatureRules): Signatures {
  const nowS = () => Math.floor(rules.now().getTime() / 1_000)
  return {
    async verifyAdmin(request) {
      if (rules.adminSecret === null || request.method === 'GET' || request.method === 'HEAD') {
        return
      }
      const verdict = checkSignature(request, rules.adminSecret, nowS())
      if (verdict.kind === 'invalid') throw signatureInvalid(verdict.reason)
      if (!(await rules.remember(verdict.signature))) throw signatureInvalid('replayed')
    },

    resultDenial(request, hmacKey) {
      if (request.header === undefined && !rules.requireSignedResults) return undefined
      const verdict = checkSignature(request, hmacKey(), nowS())
      return verdict.kind === 'invalid' ? signatureInvalid(verdict.reason) : undefined
    },
  }
}

function signatureInvalid(reason: SignatureFault): Denial {
  const message = {
    missing:
      'Sign the request: X-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256>; an upload names its bytes in X-APK-SHA256.',
    malformed: 'X-Signature must read t=<unix seconds>,v1=<64 lower-case hex digits>.',
    stale: `The signature's time is more than ${SIGNATURE_WINDOW_S} s off. Check your clock and sign anew.`,
    replayed: 'This signature was accepted before. Sign each request anew.',
    mismatch: 'The signature does not fit the request and the secret.',
  }[reason]
  return new Denial('signature_invalid', message, {
    event: 'sec.hmac.invalid',
    fields: { reason, token_id: null },
  })
}
