/** One phone whose steps are handled by two releases in turn: each must read what the other wrote. */
import { setTimeout as wait } from 'node:timers/promises'
import { fidOf } from '../../sim/fcm/apps.ts'
import type { FakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { bodyOf, createSend, jsonHeaders, type Send, textOf } from '../../testkit/http/client.ts'
import { ADMIN_TOKEN } from '../../testkit/service-settings.ts'

const MAX_TRIES = 20
const RETRY_MS = 500

/** Returns what went wrong. `first` and `second` are the origins of replicas. */
export async function cross(
  alias: string,
  first: string,
  second: string,
): Promise<readonly string[]> {
  const [a, b] = [createSend(first), createSend(second)]
  const wrong: string[] = []
  const expect = async (what: string, response: ReturnType<Send>, status: number, code = '') => {
    const got = await response
    const body = bodyOf(got)
    if (got.status !== status || (code !== '' && body['code'] !== code)) {
      wrong.push(`${alias}: ${what}: ${got.status} ${textOf(body, 'code')}, not ${status} ${code}`)
    }
    return body
  }
  const token = async (send: Send) => {
    const body = { aliases: [alias] }
    const { tokens } = await expect(
      'token',
      post(send, '/v1/enroll-tokens', ADMIN_TOKEN, body),
      201,
    )
    return textOf(Object(tokens)[0] ?? {}, 'token')
  }
  // Without an id, the second call would not prove to come from the same phone.
  const phone = { alias, hardware_id: `serial-${alias}` }
  const register = async (what: string, send: Send, enrollment: string, status: number) =>
    textOf(
      await expect(what, post(send, '/v1/register', enrollment, phone), status),
      'device_token',
    )
  const beat = (send: Send, device: string) => post(send, '/v1/heartbeat', device, {})

  const firstToken = await token(a)
  const lost = await register('enrolled by the first', a, firstToken, 201)
  const device = await register('asked again by a lost answer, of the second', b, firstToken, 200)
  await expect('its heartbeat to the second', beat(b, device), 200)
  await expect('the lost token at the first', beat(a, lost), 401, 'token_superseded')
  await expect('its heartbeat to the first', beat(a, device), 200)
  const order = { alias, action: 'ring', request_id: `x-${alias}` }
  await expect(
    'a command to the first',
    post(a, '/admin/command?wait_ms=0', ADMIN_TOKEN, order),
    202,
  )
  const beaten = await expect('handed over by the second', beat(b, device), 200)
  const commands = Object(beaten['commands'])
  if (commands[0]?.request_id !== order.request_id)
    wrong.push(`${alias}: no command from the second`)
  const result = { request_id: order.request_id, outcome: 'success' }
  await expect('its result to the second', post(b, '/v1/action-result', device, result), 200)
  const told = await expect(
    'known to the first',
    get(a, `/admin/commands/${order.request_id}`),
    200,
  )
  if (told['status'] !== 'completed') wrong.push(`${alias}: status ${told['status']} at the first`)

  const again = await register('re-enrolled by the second', b, await token(a), 200)
  await expect('its old token at the first', beat(a, device), 401, 'token_superseded')
  await expect('its old token at the second', beat(b, device), 401, 'token_superseded')
  await expect('its new token at the first', beat(a, again), 200)
  await expect('its new token at the second', beat(b, again), 200)
  const third = await register('re-enrolled by the first', a, await token(b), 200)
  await expect('the token before at the second', beat(b, again), 401, 'token_superseded')
  await expect('the newest at the second', beat(b, third), 200)
  await expect('the newest at the first', beat(a, third), 200)
  return wrong
}

/**
 * A phone that moves from a token to a FID and back, heard of by the previous release, which knows no FID, and by this one.
 * Neither may lose what the other wrote. Returns what went wrong.
 */
export async function crossIdentity(
  alias: string,
  previous: string,
  current: string,
  fcm: Pick<FakeFcm, 'register'>,
): Promise<readonly string[]> {
  const [before, now] = [createSend(previous), createSend(current)]
  const wrong: string[] = []
  const fid = fidOf(alias)
  const tokens = [`first-${alias}`, `second-${alias}`] as const
  fcm.register(fid, () => {}, 'fid')
  for (const token of tokens) fcm.register(token, () => {})
  const enrollmentToken = async () => {
    const made = await post(now, '/v1/enroll-tokens', ADMIN_TOKEN, { aliases: [alias] })
    return textOf(Object(bodyOf(made)['tokens'])[0] ?? {}, 'token')
  }
  const enroll = async (send: Send, body: object) =>
    bodyOf(await post(send, '/v1/register', await enrollmentToken(), { alias, ...body }))
  const enrolled = await enroll(before, { fcm_token: tokens[0] })
  const path = `/admin/devices/${textOf(enrolled, 'device_id')}`
  const expect = async (what: string, kind: 'token' | 'fid') => {
    const { push_kind, push_token } = bodyOf(await get(now, path))
    if (push_kind !== kind || push_token !== 'live') {
      wrong.push(`${alias}: ${what}: ${push_kind}, ${push_token}, not a live ${kind}`)
    }
  }
  let device = textOf(enrolled, 'device_token')
  const beat = (send: Send, body: object) => post(send, '/v1/heartbeat', device, body)

  await expect('a token at the previous release', 'token')
  await beat(before, { fcm_token: tokens[0] })
  await beat(now, { fid })
  await expect('a FID at this one', 'fid')
  await beat(before, { fid })
  const order = { alias, action: 'ring', request_id: `y-${alias}` }
  await post(before, '/admin/command?wait_ms=1000', ADMIN_TOKEN, order)
  await expect('a command at the previous release', 'fid')
  device = textOf(await enroll(before, {}), 'device_token')
  await beat(before, {})
  await expect('enrolled again by the previous release', 'fid')
  await beat(before, { fcm_token: tokens[1] })
  await expect('another token at the previous release', 'token')
  await post(now, '/v1/devices/push-id', device, { fid })
  await expect('the FID again', 'fid')
  return wrong
}

/** As phones and callers do, it tries again after a 503, which a machine that is busy with two releases may give. */
async function post(send: Send, path: string, token: string, body: object): ReturnType<Send> {
  const headers = jsonHeaders(token)
  const request = { method: 'POST', path, headers, body: JSON.stringify(body) } as const
  for (let tries = 1; ; tries += 1) {
    const response = await send(request)
    if (response.status !== 503 || tries === MAX_TRIES) return response
    await wait(RETRY_MS)
  }
}

function get(send: Send, path: string): ReturnType<Send> {
  return send({ method: 'GET', path, headers: jsonHeaders(ADMIN_TOKEN) })
}
