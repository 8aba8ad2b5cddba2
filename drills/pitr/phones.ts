/** Phones that enroll through the API, and the responses to their heartbeats. */
import { enrollDevices } from '../../sim/enroll.ts'
import { bodyOf, jsonHeaders, type Send, textOf } from '../../testkit/http/client.ts'
import { ADMIN_TOKEN } from '../../testkit/service-settings.ts'

/** Device tokens of `count` new phones. */
export async function enroll(
  send: Send,
  prefix: string,
  count: number,
): Promise<readonly string[]> {
  const aliases = Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)
  const devices = await enrollDevices(send, ADMIN_TOKEN, aliases)
  return devices.map(({ token }) => token)
}

/** Sends one heartbeat each; counts `200`, or status and code: `503 not_provisioned, Retry-After`. */
export async function answersTo(send: Send, tokens: readonly string[]): Promise<string> {
  const counts: Record<string, number> = {}
  for (const token of tokens) {
    const headers = jsonHeaders(token)
    const response = await send({ method: 'POST', path: '/v1/heartbeat', headers, body: '{}' })
    const code = response.status === 200 ? '' : ` ${textOf(bodyOf(response), 'code')}`
    const retry = 'retry-after' in response.headers ? ', Retry-After' : ''
    const told = `${response.status}${code}${retry}`
    counts[told] = (counts[told] ?? 0) + 1
  }
  return Object.entries(counts)
    .map(([told, count]) => `${count} × ${told}`)
    .join('; ')
}
