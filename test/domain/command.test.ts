import t from 'tap'
import {
  type CommandFacts,
  type CommandStatus,
  type DeviceFacts,
  type SenderTrouble,
  stateAt,
  statusAt,
  type Verdict,
  type VerdictCode,
  verdictAt,
} from '../../src/domain/commands/command.ts'

const NOW = new Date('2026-03-04T05:06:07Z')
const agoS = (seconds: number) => new Date(NOW.getTime() - seconds * 1_000)
const OFFLINE_AFTER_S = 1_500

const sent: CommandFacts = {
  state: 'open',
  pushState: 'sent',
  expiresAt: agoS(-60),
  deliveredAt: null,
  outcome: null,
  isLateResult: false,
  nextAttemptAt: null,
  fcmHttpCode: null,
  fcmStatus: null,
}
const alive: DeviceFacts = {
  isDeleted: false,
  lastSeenAt: agoS(60),
  hasPushToken: true,
  isPushTokenDead: false,
  pushLoweredAt: null,
  isFidMisnamed: false,
}
const over = { expiresAt: agoS(1) }
const expired = { state: 'expired', ...over } as const
const late = { isLateResult: true, outcome: 'success' } as const

t.test('expiry is decided by the clock, to the instant, not by the sweep', async (t) => {
  const at = (expiresAt: Date) => stateAt({ state: 'open', expiresAt }, NOW)
  t.equal(at(new Date(NOW.getTime() + 1)), 'open')
  t.equal(at(NOW), 'expired')
  t.equal(at(agoS(1)), 'expired')
  for (const state of ['completed', 'cancelled', 'expired'] as const) {
    t.equal(stateAt({ state, expiresAt: agoS(1) }, NOW), state)
  }
})

t.test('the status is the ended state, else the hand-over, else how push stands', async (t) => {
  const cases: [command: Partial<CommandFacts>, status: CommandStatus][] = [
    [{ pushState: 'waiting' }, 'queued'],
    [{ pushState: 'sending' }, 'queued'],
    [{ pushState: 'backoff' }, 'queued'],
    [{ pushState: 'paused' }, 'queued'],
    [{ pushState: 'off' }, 'queued'],
    [{ pushState: 'sent' }, 'sent'],
    [{ pushState: 'gave_up' }, 'push_failed'],
    [{ pushState: 'no_token' }, 'push_failed'],
    [{ pushState: 'gave_up', deliveredAt: agoS(9) }, 'delivered'],
    [{ deliveredAt: agoS(9), ...over }, 'expired'],
    [{ deliveredAt: agoS(9), state: 'completed' }, 'completed'],
    [{ deliveredAt: agoS(9), state: 'cancelled', ...over }, 'cancelled'],
  ]
  for (const [command, status] of cases) {
    t.equal(statusAt({ ...sent, ...command }, NOW), status, JSON.stringify(command))
  }
})

type Case = [
  code: VerdictCode,
  command: Partial<CommandFacts>,
  device?: Partial<DeviceFacts>,
  also?: readonly VerdictCode[],
]

const PUSHED = ['pushed_waiting_for_device'] as const
const OFFLINE = { lastSeenAt: agoS(OFFLINE_AFTER_S + 1) }
const CASES: readonly Case[] = [
  ['completed', { state: 'completed', outcome: 'success' }],
  [
    'completed',
    { state: 'completed', outcome: 'success' },
    { isDeleted: true },
    ['device_deleted'],
  ],
  ['failed_on_device', { state: 'completed', outcome: 'failure' }],
  ['failed_on_device', { state: 'completed', outcome: 'timeout', ...over }],
  ['failed_on_device', { state: 'completed', outcome: 'rejected' }],
  [
    'failed_on_device',
    { ...expired, ...late, outcome: 'failure' },
    {},
    ['ran_after_end', 'expired'],
  ],
  ['ran_after_end', { ...expired, ...late }, {}, ['expired']],
  ['ran_after_end', { state: 'cancelled', ...late }, {}, ['cancelled']],
  ['expired', expired, {}, PUSHED],
  ['expired', { ...over, deliveredAt: agoS(9) }, {}, PUSHED],
  [
    'expired',
    { ...over, pushState: 'no_token' },
    { lastSeenAt: agoS(9_999), hasPushToken: false },
    ['no_push_token', 'device_offline'],
  ],
  ['expired', { ...expired, pushState: 'no_token' }, {}, ['no_push_token']],
  ['expired', expired, { lastSeenAt: null }, ['device_never_seen', 'pushed_waiting_for_device']],
  ['expired', { ...expired, pushState: 'off' }, {}, ['push_off']],
  ['expired', { ...expired, pushState: 'paused' }, {}, ['push_misconfigured']],
  ['expired', { ...expired, pushState: 'gave_up' }, { isPushTokenDead: true }, ['push_token_dead']],
  ['expired', { ...expired, pushState: 'gave_up' }, {}, []],
  ['expired', { ...expired, pushState: 'backoff' }, {}, ['push_backoff']],
  ['expired', { ...expired, pushState: 'waiting' }, {}, ['waiting_first_push']],
  [
    'expired',
    expired,
    { isDeleted: true, hasPushToken: false },
    ['device_deleted', 'pushed_waiting_for_device'],
  ],
  // Silence after the expiry differs from silence at the expiry.
  ['expired', { ...expired, expiresAt: agoS(9_999) }, { lastSeenAt: agoS(9_999) }, PUSHED],
  ['expired', { ...expired, expiresAt: agoS(60) }, { lastSeenAt: agoS(30) }, PUSHED],
  [
    'expired',
    { ...expired, expiresAt: agoS(60) },
    { lastSeenAt: agoS(60 + OFFLINE_AFTER_S + 1) },
    ['device_offline', ...PUSHED],
  ],
  ['cancelled', { state: 'cancelled' }],
  ['cancelled', { state: 'cancelled' }, { isDeleted: true }, ['device_deleted']],
  ['device_deleted', {}, { isDeleted: true }, PUSHED],
  ['delivered_waiting_for_result', { deliveredAt: agoS(9), pushState: 'off' }, {}, ['push_off']],
  [
    'delivered_waiting_for_result',
    { deliveredAt: agoS(9_999) },
    OFFLINE,
    ['device_offline', ...PUSHED],
  ],
  [
    'device_never_seen',
    { pushState: 'no_token' },
    { lastSeenAt: null, hasPushToken: false },
    ['no_push_token'],
  ],
  ['push_off', { pushState: 'off' }, { hasPushToken: false }, ['no_push_token']],
  ['push_misconfigured', { pushState: 'paused' }, OFFLINE, ['device_offline']],
  ['push_token_dead', { pushState: 'gave_up' }, { isPushTokenDead: true }],
  [
    'no_push_token',
    { pushState: 'no_token' },
    { hasPushToken: false, ...OFFLINE },
    ['device_offline'],
  ],
  ['device_offline', { pushState: 'backoff' }, OFFLINE, ['push_backoff']],
  ['device_offline', {}, OFFLINE, PUSHED],
  ['push_backoff', { pushState: 'backoff', nextAttemptAt: agoS(-5) }],
  ['pushed_waiting_for_device', {}, { lastSeenAt: agoS(OFFLINE_AFTER_S) }],
  ['device_offline', { pushState: 'waiting' }, OFFLINE, ['waiting_first_push']],
  ['waiting_first_push', { pushState: 'waiting' }],
  ['waiting_first_push', { pushState: 'sending' }],
  ['waiting_first_push', { pushState: 'gave_up' }],
]

function told(
  command: Partial<CommandFacts>,
  device: Partial<DeviceFacts> = {},
  senderTrouble?: SenderTrouble,
): Verdict {
  const asked = { now: NOW, offlineAfterS: OFFLINE_AFTER_S, senderTrouble }
  return verdictAt({ ...sent, ...command }, { ...alive, ...device }, asked)
}

t.test('the verdict is the first reason that holds, and names the others', async (t) => {
  for (const [code, command, device = {}, also = []] of CASES) {
    const verdict = told(command, device)
    const title = `${code} ${JSON.stringify({ ...command, ...device })}`
    t.equal(verdict.code, code, title)
    const named = /Also: (.*)\.$/.exec(verdict.detail)?.[1]?.split(', ') ?? []
    t.same(named, also, `${title}: ${verdict.detail}`)
  }
})

t.test('a verdict says since when, until when', async (t) => {
  const detail = (...facts: Parameters<typeof told>) => told(...facts).detail
  const next = agoS(-5)
  t.match(detail({ pushState: 'backoff', nextAttemptAt: next }), next.toISOString())
  t.match(detail({}, OFFLINE), OFFLINE.lastSeenAt.toISOString())
  t.match(detail({}), agoS(60).toISOString())
  t.match(detail({ deliveredAt: agoS(9) }), agoS(9).toISOString())
  t.match(detail(over), agoS(1).toISOString())
})

t.test('a verdict names how FCM answered where that is the reason', async (t) => {
  const detail = (...facts: Parameters<typeof told>) => told(...facts).detail
  const quota = { fcmHttpCode: 429, fcmStatus: 'QUOTA_EXCEEDED' }
  const timeout = { fcmHttpCode: null, fcmStatus: 'TIMEOUT' }
  t.match(detail({ pushState: 'backoff', ...quota }), /Its last push: 429 QUOTA_EXCEEDED\.$/)
  t.match(detail({ pushState: 'backoff', ...timeout }), /Its last push: TIMEOUT\.$/)
  t.match(detail({ pushState: 'gave_up', ...timeout }), /Its last push: TIMEOUT\.$/)
  t.match(detail({ ...expired, pushState: 'gave_up', ...quota }), /over\. Its last push: 429 QUOTA/)
  t.match(detail({ pushState: 'paused', ...quota }), /429 QUOTA_EXCEEDED\.$/)
  t.match(detail({ pushState: 'gave_up', ...quota }, { isPushTokenDead: true }), /429 QUOTA/)
  for (const pushState of ['paused', 'backoff', 'gave_up', 'waiting'] as const) {
    t.notMatch(detail({ pushState }), 'last push:', 'nothing was tried')
  }
})

t.test('a verdict says that no push gets through, and since when', async (t) => {
  const since = agoS(600)
  const failing = { kind: 'failing', since, fcmStatus: 'UNAVAILABLE' } as const
  const said = `Every push of this replica has failed since ${since.toISOString()} (last UNAVAILABLE)`
  for (const pushState of ['waiting', 'sending', 'backoff'] as const) {
    t.ok(told({ pushState }, {}, failing).detail.includes(said), pushState)
    t.notMatch(told({ pushState }).detail, 'Every push', `${pushState}, and they do`)
  }
  t.equal(told({ pushState: 'waiting' }).detail, 'The push is due.')
  t.equal(
    told({ pushState: 'waiting', nextAttemptAt: new Date('2026-03-04T05:09:00Z') }).detail,
    'The device changes its push token too often: the push is due at 2026-03-04T05:09:00.000Z.',
  )
  t.equal(told({ pushState: 'sending' }).detail, 'The push is under way.')
  for (const pushState of ['sent', 'off', 'no_token', 'gave_up', 'paused'] as const) {
    t.notMatch(told({ pushState }, {}, failing).detail, 'Every push', `${pushState} waits for none`)
  }
  t.notMatch(told({ pushState: 'waiting' }, {}, { kind: 'paused', since }).detail, 'Every push')
})
