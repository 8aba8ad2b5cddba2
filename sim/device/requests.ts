/** Requests of a phone, as its HTTP library sends them. */
import type { PushId } from '../../src/domain/delivery/push-id.ts'
import { type HttpRequest, jsonHeaders } from '../../testkit/http/client.ts'
import { registrationBody } from './body.ts'
import type { Habits } from './habits.ts'
import type { QueueItem } from './queue.ts'
import { signatureOf } from './signature.ts'

export const USER_AGENT = 'okhttp/4.12.0'

/** What a registration gave it. */
export interface Identity {
  readonly deviceId: string
  readonly deviceToken: string
  readonly hmacKey: string
}

export function registerRequest(
  enrollmentToken: string,
  alias: string,
  pushId: PushId | null,
): HttpRequest {
  const headers = { ...jsonHeaders(enrollmentToken), 'user-agent': USER_AGENT }
  return { method: 'POST', path: '/v1/register', headers, body: registrationBody(alias, pushId) }
}

/** Results are signed if its habits say so. */
export function itemRequest(
  { kind, path, body }: QueueItem,
  { deviceToken, hmacKey }: Identity,
  { signsResults }: Pick<Habits, 'signsResults'>,
  nowMs: number,
): HttpRequest {
  const headers = { ...jsonHeaders(deviceToken), 'user-agent': USER_AGENT }
  const request = { method: 'POST', path, headers, body } as const
  if (kind !== 'result' || !signsResults) return request
  const signature = signatureOf(request, hmacKey, nowMs)
  return { ...request, headers: { ...headers, 'x-signature': signature } }
}
