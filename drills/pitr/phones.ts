/** Phones that enroll through the API, and what each is told when it sends a heartbeat. */
import { registrationBody } from '../../sim/device-body.ts'
import { issueEnrollmentTokens } from '../../sim/fleet.ts'
import { bodyOf, jsonHeaders, type Send, textOf } from '../../sim/http.ts'
import { ADMIN_TOKEN } from '../service-settings.ts'

/** Device tokens of `count` new phones. */
export async function enroll(
  send: Send,
  prefix: string,
  count: number,
): Promise<readonly string[]> {
  const aliases = Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)
  const tokens = await issueEnrollmentTokens(send, ADMIN_TOKEN, aliases)
  return Promise.all(
    aliases.map(async (alias) => {
      const answer = await send({
        method: 'POST',
        path: '/v1/register',
        headers: jsonHeaders(tokens.get(alias) ?? ''),
        body: registrationBody(alias, null),
      })
      const token = textOf(bodyOf(answer), 'device_token')
      if (token === '') throw new Error(`${alias} was answered with ${answer.status}`)
      return token
    }),
  )
}

/** `200`, or status and code, each with how often: `503 not_provisioned, Retry-After`. */
export async function answersTo(send: Send, tokens: readonly string[]): Promise<string> {
  const counts: Record<string, number> = {}
  for (const token of tokens) {
    const headers = jsonHeaders(token)
    const answer = await send({ method: 'POST', path: '/v1/heartbeat', headers, body: '{}' })
    const code = answer.status === 200 ? '' : ` ${textOf(bodyOf(answer), 'code')}`
    const retry = 'retry-after' in answer.headers ? ', Retry-After' : ''
    const told = `${answer.status}${code}${retry}`
    counts[told] = (counts[told] ?? 0) + 1
  }
  return Object.entries(counts)
    .map(([told, count]) => `${count} × ${told}`)
    .join('; ')
}
