/** A simulated phone under a made-up clock, against scripted answers. */
import { Device, type DeviceOptions } from '../../sim/device/device.ts'
import { commandData } from '../../src/domain/delivery/command-message.ts'
import type { HttpRequest, HttpResponse } from '../../testkit/http/client.ts'

export const HOUR_MS = 3_600_000
export const DEVICE_ID = '6377acb3-0000-4000-8000-000000000025'
export const HMAC_KEY = 'a-key'
export const START_MS = Date.parse('2026-01-31T09:00:00.000Z')

export interface Scripted {
  readonly status: number
  readonly body?: object
  readonly headers?: object
}

type Answer = Scripted | 'silent'

function answerOf({ status, body = {}, headers = {} }: Scripted): HttpResponse {
  return { status, headers: { ...headers }, bytes: Buffer.from(JSON.stringify(body)) }
}

/** A phone, its clock, what it asked for, and who answers: 'silent' gives no answer. */
export function phone(options: Partial<DeviceOptions> = {}) {
  const requests: HttpRequest[] = []
  const world = {
    nowMs: START_MS,
    random: 0,
    answer: (_: HttpRequest): Answer | Promise<Answer> => ({ status: 200 }),
  }
  const device = new Device({
    alias: 'D01',
    nowMs: () => world.nowMs,
    random: () => world.random,
    async send(request) {
      if (request.path === '/v1/register') {
        const body = { device_id: DEVICE_ID, device_token: 'dt_one', hmac_key: HMAC_KEY }
        return answerOf({ status: 201, body })
      }
      requests.push(request)
      const response = await world.answer(request)
      if (response === 'silent') throw new Error('ECONNREFUSED')
      return answerOf(response)
    },
    ...options,
  })
  const paths = () => requests.splice(0).map(({ path }) => path)
  return { device, world, requests, paths }
}

/** Registered; its alarm is due, since `random` is 0. */
export async function enrolled(options: Partial<DeviceOptions> = {}) {
  const made = phone(options)
  await made.device.register('et_one')
  return made
}

let messages = 0
/** About a new command for it, signed, good for an hour. */
export function message(change: Partial<Parameters<typeof commandData>[0]> = {}) {
  messages += 1
  return commandData({
    requestId: `c${messages}`,
    deviceId: DEVICE_ID,
    action: 'ring',
    params: { seconds: '5' },
    expiresAt: new Date(START_MS + HOUR_MS),
    attempt: 1,
    ts: new Date(START_MS),
    hmacKey: HMAC_KEY,
    ...change,
  })
}
