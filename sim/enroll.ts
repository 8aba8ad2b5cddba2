/** Enrollment through the API: tokens by the admin, registrations by phones. */
import { asJsonObject, bodyOf, jsonHeaders, type Send, textOf } from '../testkit/http/client.ts'
import { registrationBody } from './device/body.ts'

const MAX_BATCH = 100

/**
 * Single-use enrollment tokens bound to the aliases, in batches. With `phonesPerToken` above 1, that many phones share
 * an unbound token, because tokens per admin and hour are limited.
 */
export async function issueEnrollmentTokens(
  send: Send,
  adminToken: string,
  aliases: readonly string[],
  phonesPerToken = 1,
): Promise<ReadonlyMap<string, string>> {
  const issued = new Map<string, string>()
  for (const batch of chunksOf(chunksOf(aliases, phonesPerToken), MAX_BATCH)) {
    const bound = batch.map(([alias = null]) => (phonesPerToken === 1 ? alias : null))
    const response = await send({
      method: 'POST',
      path: '/v1/enroll-tokens',
      headers: jsonHeaders(adminToken),
      body: JSON.stringify({ aliases: bound, uses_allowed: phonesPerToken }),
    })
    const { tokens, code } = bodyOf(response)
    if (response.status !== 201 || !Array.isArray(tokens)) {
      throw new Error(
        `enrollment tokens were answered with ${response.status} ${code ?? ''}`.trim(),
      )
    }
    for (const [index, sharers] of batch.entries()) {
      const token = textOf(asJsonObject(tokens[index]) ?? {}, 'token')
      for (const alias of sharers) issued.set(alias, token)
    }
  }
  return issued
}

function chunksOf<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  const count = Math.ceil(items.length / size)
  return Array.from({ length: count }, (_, index) => items.slice(index * size, (index + 1) * size))
}

export interface EnrolledDevice {
  readonly alias: string
  readonly deviceId: string
  readonly token: string
}

/** Enrolls a new device for each alias, without a push token. */
export async function enrollDevices(
  send: Send,
  adminToken: string,
  aliases: readonly string[],
): Promise<readonly EnrolledDevice[]> {
  const devices: EnrolledDevice[] = []
  for (const [alias, token] of await issueEnrollmentTokens(send, adminToken, aliases)) {
    devices.push(await register(send, alias, token))
  }
  return devices
}

export async function register(
  send: Send,
  alias: string,
  enrollmentToken: string,
): Promise<EnrolledDevice> {
  const response = await send({
    method: 'POST',
    path: '/v1/register',
    headers: jsonHeaders(enrollmentToken),
    body: registrationBody(alias, null),
  })
  if (response.status !== 201)
    throw new Error(`a registration was answered with ${response.status}`)
  const body = bodyOf(response)
  return { alias, deviceId: textOf(body, 'device_id'), token: textOf(body, 'device_token') }
}
