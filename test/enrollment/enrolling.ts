/** A service, and phones that enroll there. */
import t from 'tap'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

/** A phone that says which one it is. */
const PHONE = { hardware_id: 'R4S1409240004533' }
export const PARALLEL = Array.from({ length: 64 }, (_, index) => index)

export const service = await startService(t)
export const db = await connect(t, service.databaseUrl)

/** One token; `alias` null: unbound. */
export async function issue(
  alias: string | null,
  options = {},
): Promise<{ id: string; token: string }> {
  const body = { aliases: [alias], ...options }
  const made = await service.call('POST', '/v1/enroll-tokens', { body })
  return { id: made.body.tokens[0].token_id, token: made.body.tokens[0].token }
}

/** Asked again while the answer is 503, as a phone does: a slow machine may have no connection left for 64 at once. */
export async function register(
  token: string,
  body: unknown = PHONE,
  requestId?: string,
): Promise<TestResponse> {
  const headers = requestId === undefined ? {} : { 'x-request-id': requestId }
  for (;;) {
    const response = await service.call('POST', '/v1/register', { token, body, headers })
    if (response.status !== 503) return response
  }
}

export function beat(token: string): Promise<TestResponse> {
  return service.call('POST', '/v1/heartbeat', { token, body: {} })
}

export async function usesOf(tokenId: string): Promise<number> {
  const sql = 'select uses_consumed from enrollment_tokens where token_id = $1'
  return (await db.query(sql, [tokenId])).rows[0].uses_consumed
}

export async function devicesOf(tokenId: string): Promise<number> {
  const sql = 'select count(*)::int as n from devices where enrolled_by = $1'
  return (await db.query(sql, [tokenId])).rows[0].n
}

export function countBy(responses: readonly TestResponse[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { status, body } of responses) {
    const key = status < 400 ? String(status) : `${status} ${body.code}`
    counts[key] = (counts[key] ?? 0) + 1
  }
  return counts
}
