/** Phones that enroll through the API, and what each is told when it sends a heartbeat. */

import { registrationBody } from '../../sim/device-body.ts'
import { bodyOf, jsonHeaders, type Send, textOf } from '../../sim/http.ts'
import { ADMIN_TOKEN } from '../service-settings.ts'

/** Device tokens of `count` new phones. */
export async function enroll(
  send: Send,
  prefix: string,
  count: number,
): Promise<readonly string[]> {
  const aliases = Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)
  const issued = await send({
    method: 'POST',
    path: '/v1/enroll-tokens',
    headers: jsonHeaders(ADMIN_TOKEN),
    body: JSON.stringify({ aliases, expires_in_sec: 3_600 }),
  })
  const { tokens } = bodyOf(issued) as { readonly tokens: readonly { readonly token: string }[] } // of a 201
  return Promise.all(
    aliases.map(async (alias, index) => {
      const answer = await send({
        method: 'POST',
        path: '/v1/register',
        headers: jsonHeaders(tokens[index]?.token ?? ''),
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
