/** Each status and each verdict, brought about through the API: a command says at which stage it stands, and why. */
import t from 'tap'
import type { CommandRow } from '../../src/db/commands/commands.ts'
import {
  COMMAND_STATUSES,
  type CommandStatus,
  type SenderTrouble,
  type VerdictCode,
} from '../../src/domain/commands/command.ts'
import { pausedWith } from '../../src/routes/commands/command-json.ts'
import { createScenes, type Scene, type SceneOptions } from './scenes.ts'

const sceneOf = await createScenes(t)
const isShown = new Set<string>()

interface Fault extends SceneOptions {
  readonly status: CommandStatus
  readonly verdict: VerdictCode
  /** Part of the verdict's detail. */
  readonly says: string | RegExp
  /** What happens to the command. */
  readonly after?: (scene: Scene) => Promise<unknown>
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
    says: /never handed over\. Its last push: 200 OK\. Also: pushed_waiting_for_device\.$/,
    after: (scene) => scene.expire(),
  },
  'its time passed while the device was away': {
    status: 'expired',
    verdict: 'expired',
    says: /Also: device_offline, pushed_waiting_for_device\.$/,
    after: async (scene) => {
      await scene.silence(1)
      await scene.expire()
    },
  },
  'its time passed, and the device never came': {
    status: 'expired',
    verdict: 'expired',
    says: /Also: device_never_seen, no_push_token\.$/,
    hasPushToken: false,
    isInTouch: false,
    after: (scene) => scene.expire(),
  },
  'its time passed with push off': {
    status: 'expired',
    verdict: 'expired',
    says: /Also: push_off, no_push_token\.$/,
    hasPushToken: false,
    service: 'without push',
    after: (scene) => scene.expire(),
  },
  'its time passed with a dead push token': {
    status: 'expired',
    verdict: 'expired',
    says: /Its last push: 404 UNREGISTERED\. Also: push_token_dead\.$/,
    fcm: 'unregistered',
    after: (scene) => scene.expire(),
  },
  'its time passed before the next push': {
    status: 'expired',
    verdict: 'expired',
    says: /Its last push: 503 UNAVAILABLE\. Also: push_backoff\.$/,
    fcm: 'unavailable',
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
    after: ({ db, device: { deviceId } }) =>
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
    service: 'without push',
  },
  'FCM refuses our credentials': {
    status: 'queued',
    verdict: 'push_misconfigured',
    says: 'Its last push: 403 PERMISSION_DENIED.',
    fcm: 'forbidden',
    service: 'refused',
  },
  'its time passed while it waited for the sender that they paused': {
    status: 'expired',
    verdict: 'expired',
    says: /never handed over\. Also: push_misconfigured\.$/,
    fcm: 'forbidden',
    service: 'refused',
    after: (scene) => scene.expire(),
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
    after: (scene) => scene.silence(1),
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
    says: /^The push is (due|under way)\.$/,
    fcm: 'hang',
  },
  'FCM takes nothing from anyone': {
    status: 'queued',
    verdict: 'waiting_first_push',
    says: /^The push is due\. Every push of this replica has failed since \d{4}-.*Z \(last UNAVAILABLE\): one a second/,
    fcm: 'hang',
    service: 'in an outage',
  },
  'FCM finds the message wrong': {
    status: 'push_failed',
    verdict: 'waiting_first_push',
    says: 'Push gave up; the next heartbeat delivers it. Its last push: 400 INVALID_ARGUMENT.',
    fcm: 'invalid_argument',
  },
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

t.test('a paused sender holds the commands that had time left and have no result', async (t) => {
  const since = new Date('2026-03-04T05:06:07Z')
  const later = new Date(since.getTime() + 1)
  const open = { state: 'open', pushState: 'waiting', outcome: null, expiresAt: later }
  const shown = (facts: object, trouble: SenderTrouble | undefined = { kind: 'paused', since }) =>
    pausedWith({ ...open, ...facts } as CommandRow, trouble).pushState
  t.equal(shown({}), 'paused')
  t.equal(shown({ pushState: 'backoff' }), 'paused')
  t.equal(shown({ state: 'expired' }), 'paused')
  for (const facts of [{ state: 'cancelled' }, { outcome: 'success' }, { expiresAt: since }]) {
    t.equal(shown(facts), 'waiting', JSON.stringify(facts))
  }
  t.equal(shown({ pushState: 'gave_up' }), 'gave_up')
  t.equal(shown({}, { kind: 'failing', since, fcmStatus: 'UNAVAILABLE' }), 'waiting')
})

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
