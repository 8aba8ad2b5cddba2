/** Each status and each verdict, brought about through the API: a command says at which stage it stands, and why. */
import t, { type Test } from 'tap'
import { startFcmStandIn } from '../sim/fcm-stand-in.ts'
import { COMMAND_STATUSES, type CommandStatus, type VerdictCode } from '../src/core/command.ts'
import { connect } from './helpers/database.ts'
import { type Enrolled, type Running, startService } from './helpers/service.ts'

const fcm = await startFcmStandIn()
t.teardown(() => fcm.close())
const env = {
  FIREBASE_SERVICE_ACCOUNT_JSON: fcm.serviceAccount.json,
  FCM_BASE_URL: fcm.baseUrl,
  FCM_RETRY_BASE_MS: '3600000', // no retry comes within a test
  FCM_TIMEOUT_MS: '15000',
}
const pushing = await startService(t, { env })
const db = await connect(t, pushing.databaseUrl)
const isShown = new Set<string>()

interface Scene {
  readonly service: Running
  readonly device: Enrolled
  readonly id: string
  report(outcome: string): Promise<unknown>
  beat(body?: object): Promise<unknown>
  cancel(): Promise<unknown>
  expire(): Promise<unknown>
  remove(): Promise<unknown>
}

interface Fault {
  readonly status: CommandStatus
  readonly verdict: VerdictCode
  /** Stands in the verdict's detail. */
  readonly says: string | RegExp
  /** How FCM answers; default ok. */
  readonly fcm?: Parameters<typeof fcm.setMode>[0]['fcm']
  readonly service?: (t: Test) => Promise<Running>
  /** Default true: the device gave a push token that FCM knows. */
  readonly hasPushToken?: boolean
  /** Default true: it sent a heartbeat before the command. */
  readonly isInTouch?: boolean
  /** What happens to the command. */
  readonly after?: (scene: Scene) => Promise<unknown>
}

const silentFor = (hours: number) => async (scene: Scene) => {
  const text = `update device_status set last_seen_at = now() - make_interval(hours => $2) where device_id = $1`
  await db.query(text, [scene.device.deviceId, hours])
}

const FAULTS: Readonly<Record<string, Fault>> = {
  'the device ran it': {
    status: 'completed',
    verdict: 'completed',
    says: 'reported success',
    after: (scene) => scene.report('success'),
  },
  'the device failed': {
    status: 'completed',
    verdict: 'failed_on_device',
    says: 'reported failure',
    after: (scene) => scene.report('failure'),
  },
  'the device ran out of time': {
    status: 'completed',
    verdict: 'failed_on_device',
    says: 'reported timeout',
    after: (scene) => scene.report('timeout'),
  },
  'the device refused': {
    status: 'completed',
    verdict: 'failed_on_device',
    says: 'reported rejected',
    after: (scene) => scene.report('rejected'),
  },
  'it ran after its time': {
    status: 'expired',
    verdict: 'ran_after_end',
    says: /\(expired\)\. Also: expired\.$/,
    after: async (scene) => {
      await scene.expire()
      await scene.report('success')
    },
  },
  'it ran after it was cancelled': {
    status: 'cancelled',
    verdict: 'ran_after_end',
    says: /\(cancelled\)\. Also: cancelled\.$/,
    after: async (scene) => {
      await scene.cancel()
      await scene.report('success')
    },
  },
  'its time passed': {
    status: 'expired',
    verdict: 'expired',
    says: 'never handed over',
    after: (scene) => scene.expire(),
  },
  'its time passed after the hand-over': {
    status: 'expired',
    verdict: 'expired',
    says: 'though it was handed over',
    after: async (scene) => {
      await scene.beat()
      await scene.expire()
    },
  },
  'an admin cancelled it': {
    status: 'cancelled',
    verdict: 'cancelled',
    says: 'the timeline names by whom',
    after: (scene) => scene.cancel(),
  },
  'its device was deleted': {
    status: 'cancelled',
    verdict: 'cancelled',
    says: /Also: device_deleted\.$/,
    after: (scene) => scene.remove(),
  },
  'its device was deleted by hand': {
    status: 'sent',
    verdict: 'device_deleted',
    says: 'The device was deleted.',
    after: ({ device: { deviceId } }) =>
      db.query('update devices set deleted_at = now() where device_id = $1', [deviceId]),
  },
  'it was handed over': {
    status: 'delivered',
    verdict: 'delivered_waiting_for_result',
    says: /^Handed over at \d{4}-.*Also: pushed_waiting_for_device\.$/,
    after: (scene) => scene.beat(),
  },
  'the device never came': {
    status: 'sent',
    verdict: 'device_never_seen',
    says: 'has never sent a heartbeat',
    isInTouch: false,
  },
  'push is off': {
    status: 'queued',
    verdict: 'push_off',
    says: 'No FCM credentials',
    service: (t) => startService(t),
  },
  'FCM refuses our credentials': {
    status: 'queued',
    verdict: 'push_misconfigured',
    says: 'Its last push: 403 PERMISSION_DENIED.',
    fcm: 'forbidden',
    service: (t) => startService(t, { env }),
  },
  'the push token is dead': {
    status: 'push_failed',
    verdict: 'push_token_dead',
    says: 'Its last push: 404 UNREGISTERED.',
    fcm: 'unregistered',
  },
  'the device gave no push token': {
    status: 'push_failed',
    verdict: 'no_push_token',
    says: 'gave no push token',
    hasPushToken: false,
  },
  'the device is away': {
    status: 'sent',
    verdict: 'device_offline',
    says: /^No contact since \d{4}-.*Also: pushed_waiting_for_device\.$/,
    after: silentFor(1),
  },
  'FCM is overloaded': {
    status: 'queued',
    verdict: 'push_backoff',
    says: /the next is due at \d{4}-.*Its last push: 503 UNAVAILABLE\.$/,
    fcm: 'unavailable',
  },
  'FCM has it and the device is in touch': {
    status: 'sent',
    verdict: 'pushed_waiting_for_device',
    says: 'FCM accepted it; the device was last seen 2',
  },
  'FCM has not answered yet': {
    status: 'queued',
    verdict: 'waiting_first_push',
    says: 'The push is due.',
    fcm: 'hang',
  },
  'FCM finds the message wrong': {
    status: 'push_failed',
    verdict: 'waiting_first_push',
    says: 'Push gave up; the next heartbeat delivers it. Its last push: 400 INVALID_ARGUMENT.',
    fcm: 'invalid_argument',
  },
}

let devices = 0

async function sceneOf(t: Test, fault: Fault): Promise<Scene> {
  const { hasPushToken = true, isInTouch = true } = fault
  const service = (await fault.service?.(t)) ?? pushing
  devices += 1
  const id = `verdict-${devices}`
  const pushToken = `push-${devices}`
  fcm.register(pushToken, () => {})
  const device = await service.enroll(`V${devices}`, hasPushToken ? { fcm_token: pushToken } : {})
  const { token } = device
  const beat = (body: object = {}) => service.call('POST', '/v1/heartbeat', { token, body })
  if (isInTouch) await beat()
  fcm.setMode({ fcm: fault.fcm ?? 'ok' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const waitMs = fault.fcm === 'hang' ? 0 : 10_000
  const body = { device_id: device.deviceId, action: 'ping', request_id: id }
  const sent = await service.call('POST', `/admin/command?wait_ms=${waitMs}`, { body })
  t.equal(sent.status, 202)
  return {
    service,
    device,
    id,
    beat,
    report: (outcome) =>
      service.call('POST', '/v1/action-result', { token, body: { request_id: id, outcome } }),
    cancel: () => service.call('DELETE', `/admin/commands/${id}`),
    expire: () => db.query('update commands set expires_at = now() where request_id = $1', [id]),
    remove: () => service.call('DELETE', `/admin/devices/${device.deviceId}`),
  }
}

for (const [title, fault] of Object.entries(FAULTS)) {
  t.test(`${title}: ${fault.status}, ${fault.verdict}`, async (t) => {
    const scene = await sceneOf(t, fault)
    await fault.after?.(scene)
    const { service, id } = scene
    const { body } = await service.call('GET', `/admin/commands/${id}`)
    t.same([body.status, body.verdict.code], [fault.status, fault.verdict], body.verdict.detail)
    t.match(body.verdict.detail, fault.says)
    const list = await service.call('GET', `/admin/commands?status=${fault.status}&limit=500`)
    const listed = list.body.commands.find((one: { request_id: string }) => one.request_id === id)
    t.equal(listed?.status, fault.status, 'the list says the same')
    isShown.add(fault.status).add(fault.verdict)
  })
}

t.test('each status and each verdict was shown', async (t) => {
  const codes: Readonly<Record<VerdictCode, true>> = {
    completed: true,
    failed_on_device: true,
    ran_after_end: true,
    expired: true,
    cancelled: true,
    device_deleted: true,
    delivered_waiting_for_result: true,
    device_never_seen: true,
    push_off: true,
    push_misconfigured: true,
    push_token_dead: true,
    no_push_token: true,
    device_offline: true,
    push_backoff: true,
    pushed_waiting_for_device: true,
    waiting_first_push: true,
  }
  t.same(isShown, new Set([...COMMAND_STATUSES, ...Object.keys(codes)]))
})
