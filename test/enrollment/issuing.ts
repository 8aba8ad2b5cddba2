/** A service with several admins, and tokens that they issue. */
import t from 'tap'
import type { LogLine } from '../../testkit/log-book.ts'
import { connect } from '../helpers/database.ts'
import { ADMIN, startService } from '../helpers/service.ts'

export const PATH = '/v1/enroll-tokens'
export const OTHER_ADMIN = 'other-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
export const FOURTH = `${OTHER_ADMIN}-4`
export const LIMIT = 60

export const service = await startService(t, {
  env: {
    ADMIN_TOKENS: `tester=${ADMIN},other=${OTHER_ADMIN},third=${OTHER_ADMIN}-3,fourth=${FOURTH}`,
    RATE_LIMIT_TOKENS_PER_HOUR: String(LIMIT),
  },
})
export const db = await connect(t, service.databaseUrl)

export interface Issued {
  readonly token_id: string
  readonly alias: string | null
  readonly token: string
}

export async function issue(aliases: readonly (string | null)[], options = {}): Promise<Issued[]> {
  const made = await service.call('POST', PATH, { body: { aliases, ...options } })
  return made.body.tokens
}

export function register(token: string | undefined, requestId: string, body: unknown = {}) {
  const headers = { 'x-request-id': requestId }
  return service.call('POST', '/v1/register', { token: token ?? '', body, headers })
}

/** All lines of one request, its terminal line last. */
export async function story(requestId: string): Promise<readonly LogLine[]> {
  await service.lines.terminalOf(requestId)
  return service.lines.all.filter((line) => line['request_id'] === requestId)
}

export function expire(tokenId: string | undefined) {
  return db.query('update enrollment_tokens set expires_at = now() where token_id = $1', [tokenId])
}
