/** One command brought into some state through the API: with which device, service and FCM, and what happens to it. */
import type pg from 'pg'
import type { Test } from 'tap'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, type Running, startService } from '../helpers/service.ts'

export interface Scene {
  readonly service: Running
  readonly db: pg.Client
  readonly device: Enrolled
  /** The command's. */
  readonly id: string
  report(outcome: string): Promise<unknown>
  beat(): Promise<unknown>
  cancel(): Promise<unknown>
  expire(): Promise<unknown>
  remove(): Promise<unknown>
  /** As if the device had said nothing for so long. */
  silence(hours: number): Promise<unknown>
}

export interface SceneOptions {
  /** How FCM answers; default ok. */
  readonly fcm?: Parameters<FakeFcm['setMode']>[0]['fcm']
  /** Default `pushing`. Each lives as long as the file. */
  readonly service?: 'pushing' | 'without push' | 'refused' | 'in an outage'
  /** Default true: the device gave a push token that FCM knows. */
  readonly hasPushToken?: boolean
  /** Default true: it sent a heartbeat before the command. */
  readonly isInTouch?: boolean
}

/** src/push/send-limit.ts */
const FAILURES_IN_A_ROW = 20

/** `t` is the file's. */
export async function createScenes(t: Test) {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  const env = {
    ...pushSettings(fcm),
    FCM_RETRY_BASE_MS: '3600000', // no retry comes within a test
    FCM_TIMEOUT_MS: '15000',
  }
  const start = {
    pushing: () => startService(t, { env }),
    'without push': () => startService(t),
    refused: () => startService(t, { env }), // by its first command; others wait then
    'in an outage': () => startInOutage(t, fcm, env),
  }
  const services = new Map<string, Promise<Running>>()
  let scenes = 0

  function serviceOf(name: keyof typeof start): Promise<Running> {
    const service = services.get(name) ?? start[name]()
    services.set(name, service)
    return service
  }

  return async (t: Test, options: SceneOptions): Promise<Scene> => {
    const { hasPushToken = true, isInTouch = true } = options
    const service = await serviceOf(options.service ?? 'pushing')
    const db = await connect(t, service.databaseUrl)
    scenes += 1
    const id = `scene-${scenes}`
    const pushToken = `push-${scenes}`
    fcm.register(pushToken, () => {})
    const device = await service.enroll(`S${scenes}`, hasPushToken ? { fcm_token: pushToken } : {})
    const { deviceId, token } = device
    const beat = () => service.call('POST', '/v1/heartbeat', { token, body: {} })
    if (isInTouch) await beat()
    fcm.setMode({ fcm: options.fcm ?? 'ok' })
    t.teardown(() => fcm.setMode({ fcm: 'ok' }))
    const waitMs = options.fcm === 'hang' ? 0 : 10_000
    const body = { device_id: deviceId, action: 'ping', request_id: id }
    const sent = await service.call('POST', `/admin/command?wait_ms=${waitMs}`, { body })
    t.equal(sent.status, 202)
    return {
      service,
      db,
      device,
      id,
      beat,
      report: (outcome) =>
        service.call('POST', '/v1/action-result', { token, body: { request_id: id, outcome } }),
      cancel: () => service.call('DELETE', `/admin/commands/${id}`),
      expire: () => db.query('update commands set expires_at = now() where request_id = $1', [id]),
      remove: () => service.call('DELETE', `/admin/devices/${deviceId}`),
      silence(hours) {
        const text = `update device_status set last_seen_at = now() - make_interval(hours => $2) where device_id = $1`
        return db.query(text, [deviceId, hours])
      },
    }
  }
}

/** Its pushes have failed so often that it tries one at a time, and that one is under way. */
async function startInOutage(
  t: Test,
  fcm: FakeFcm,
  env: Readonly<Record<string, string>>,
): Promise<Running> {
  const service = await startService(t, { env })
  await service.enroll('outage', { fcm_token: 'outage' })
  const push = (id: string) =>
    service.call('POST', '/admin/command?wait_ms=0', {
      body: { alias: 'outage', action: 'ping', request_id: id },
    })
  fcm.setMode({ fcm: 'unavailable' })
  for (let sent = 0; sent < FAILURES_IN_A_ROW; sent += 1) await push(`outage-${sent}`)
  await service.lines.atLeast(FAILURES_IN_A_ROW, 'dispatch.fail')
  fcm.setMode({ fcm: 'hang' })
  await push('under-way')
  await fcm.waitForSend(({ data }) => data['request_id'] === 'under-way')
  return service
}
