/** Explains why an enrollment token is refused, or was not used yet. */
import type { Api } from '../api/client.ts'
import type { EnrollmentToken } from '../api/openapi.ts'
import { pages } from '../api/pages.ts'
import { ago } from '../terminal/ago.ts'
import { plain } from '../terminal/text.ts'
import { UUID } from './phone.ts'

/** Tokens that are searched, newest first: of the alias, if the audit log still knows it. */
const MAX_TOKENS = 10_000

export const REFUSED = {
  active: 'not used yet: the phone never came, or its request was refused',
  exhausted: 'used up: 401 token_exhausted',
  expired: 'expired: 401 token_expired',
  revoked: 'revoked: 401 token_revoked',
} as const

export async function findToken(api: Api, tokenId: string): Promise<EnrollmentToken | undefined> {
  if (!UUID.test(tokenId)) return undefined
  const id = tokenId.toLowerCase()
  const query = { subject: id, what: 'enrollment_token.create', limit: 1 } as const
  const [creation] = (await api.call('audit', { query })).audit
  const alias = creation?.detail?.['alias']
  const known = typeof alias === 'string' ? { alias } : {}
  const found = pages(api, 'listEnrollmentTokens', 'tokens', known, MAX_TOKENS)
  for await (const { items } of found) {
    const token = items.find(({ token_id }) => token_id === id)
    if (token !== undefined) return token
  }
  return undefined
}

export async function describeToken(api: Api, token: EnrollmentToken): Promise<readonly string[]> {
  const { token_id, alias, status, uses_consumed, uses_allowed, issued_by, note } = token
  const now = api.now()
  const isPartlyUsed = status === 'active' && uses_consumed > 0
  const state = isPartlyUsed ? 'usable' : REFUSED[status]
  const revocation = status === 'revoked' ? await whoRevoked(api, token_id) : undefined
  return [
    `enrollment token ${token_id} for ${alias ?? 'any phone'}: ${state}`,
    `  made by ${issued_by} ${ago(token.issued_at, now)}, used ${uses_consumed} of ${uses_allowed} times`,
    `  ${status === 'expired' ? 'expired' : 'good until'} ${token.expires_at}`,
    ...(revocation === undefined
      ? []
      : [`  ${revocation.admin} revoked it ${ago(revocation.at, now)}`]),
    ...(note === null ? [] : [`  note: ${note}`]),
  ].map(plain)
}

async function whoRevoked(api: Api, tokenId: string) {
  const query = { subject: tokenId, what: 'enrollment_token.revoke', limit: 1 } as const
  return (await api.call('audit', { query })).audit[0]
}
