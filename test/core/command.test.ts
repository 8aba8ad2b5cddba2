import t from 'tap'
import {
  type CommandFacts,
  type CommandStatus,
  type DeviceFacts,
  stateAt,
  statusAt,
  type VerdictCode,
  verdictAt,
} from '../../src/core/command.ts'

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
  ['expired', expired],
  ['expired', { ...over, deliveredAt: agoS(9) }],
  ['expired', over, { ...OFFLINE, hasPushToken: false }],
  ['cancelled', { state: 'cancelled' }],
  ['cancelled', { state: 'cancelled' }, { isDeleted: true }, ['device_deleted']],
  ['device_deleted', {}, { isDeleted: true }, ['pushed_waiting_for_device']],
  ['delivered_waiting_for_result', { deliveredAt: agoS(9), pushState: 'off' }, {}, ['push_off']],
  [
    'delivered_waiting_for_result',
    { deliveredAt: agoS(9_999) },
    OFFLINE,
    ['device_offline', 'pushed_waiting_for_device'],
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
  ['device_offline', {}, OFFLINE, ['pushed_waiting_for_device']],
  ['push_backoff', { pushState: 'backoff', nextAttemptAt: agoS(-5) }],
  ['pushed_waiting_for_device', {}, { lastSeenAt: agoS(OFFLINE_AFTER_S) }],
  ['waiting_first_push', { pushState: 'waiting' }],
  ['waiting_first_push', { pushState: 'sending' }],
  ['waiting_first_push', { pushState: 'gave_up' }],
]

t.test('the verdict is the first reason that holds, and names the others', async (t) => {
  for (const [code, command, device = {}, also = []] of CASES) {
    const facts = { ...sent, ...command }
    const verdict = verdictAt(facts, { ...alive, ...device }, NOW, OFFLINE_AFTER_S)
    const title = `${code} ${JSON.stringify({ ...command, ...device })}`
    t.equal(verdict.code, code, title)
    const named = /Also: (.*)\.$/.exec(verdict.detail)?.[1]?.split(', ') ?? []
    t.same(named, also, `${title}: ${verdict.detail}`)
  }
})

t.test('a verdict says since when, until when', async (t) => {
  const detail = (command: Partial<CommandFacts>, device: Partial<DeviceFacts> = {}) =>
    verdictAt({ ...sent, ...command }, { ...alive, ...device }, NOW, OFFLINE_AFTER_S).detail
  const next = agoS(-5)
  t.match(detail({ pushState: 'backoff', nextAttemptAt: next }), next.toISOString())
  t.match(detail({}, OFFLINE), OFFLINE.lastSeenAt.toISOString())
  t.match(detail({}), agoS(60).toISOString())
  t.match(detail({ deliveredAt: agoS(9) }), agoS(9).toISOString())
  t.match(detail(over), agoS(1).toISOString())
})

t.test('a verdict names how FCM answered where that is the reason', async (t) => {
  const detail = (command: Partial<CommandFacts>, device: Partial<DeviceFacts> = {}) =>
    verdictAt({ ...sent, ...command }, { ...alive, ...device }, NOW, OFFLINE_AFTER_S).detail
  const quota = { fcmHttpCode: 429, fcmStatus: 'QUOTA_EXCEEDED' }
  const timeout = { fcmHttpCode: null, fcmStatus: 'TIMEOUT' }
  t.match(detail({ pushState: 'backoff', ...quota }), /Its last push: 429 QUOTA_EXCEEDED\.$/)
  t.match(detail({ pushState: 'backoff', ...timeout }), /Its last push: TIMEOUT\.$/)
  t.match(detail({ pushState: 'gave_up', ...timeout }), /Its last push: TIMEOUT\.$/)
  t.match(detail({ pushState: 'paused', ...quota }), /429 QUOTA_EXCEEDED\.$/)
  t.match(detail({ pushState: 'gave_up', ...quota }, { isPushTokenDead: true }), /429 QUOTA/)
  for (const pushState of ['paused', 'backoff', 'gave_up', 'waiting'] as const) {
    t.notMatch(detail({ pushState }), 'last push:', 'nothing was tried')
  }
})
