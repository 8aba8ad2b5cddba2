/** What the command line says of responses, its sums and its bounds, and of its environment, without a service. */
import t from 'tap'
import { refuseMisspelt } from '../../src/cli/api/connection.ts'
import type { Device, JobInList } from '../../src/cli/api/openapi.ts'
import { replicationFaults } from '../../src/cli/doctor/database.ts'
import { endedOf, openOf, progressOf } from '../../src/cli/jobs/progress.ts'
import { jobList } from '../../src/cli/verbs/jobs.ts'
import { sendVerb } from '../../src/cli/verbs/send.ts'
import { statusVerb } from '../../src/cli/verbs/status.ts'
import { describePhone } from '../../src/cli/why/phone.ts'
import * as domain from '../../src/domain/commands/job.ts'
import { run } from './run.ts'

const NOW = new Date('2026-03-04T05:06:07Z')

/** Gives these responses. */
const apiOf = (responses: Readonly<Record<string, unknown>>) => ({
  origin: 'http://127.0.0.1:8080',
  now: () => NOW,
  unreadiness: async () => [],
  call: async (operation: string) => responses[operation],
})

/** Powers of two: no other sum of them is the same. */
const COUNTS = {
  ...{ waiting: 16, queued: 1, sent: 2, delivered: 4, push_failed: 8 },
  ...{ completed: 1, failed: 2, expired: 4, cancelled: 8 },
}

const jobOf = (more: object) =>
  ({
    ...{ job_id: 'night', action: 'ring', params: {}, where: '', created_at: NOW.toISOString() },
    ...{ state: 'running', reason: null, devices: 30, counts: COUNTS, admin: 'ann', note: null },
    ...{ rate: { released_per_min: 60, ended_per_min: 0 }, eta_s: 240 },
    ...more,
  }) as JobInList

t.test('members are added up', async (t) => {
  for (const { openOf: open, endedOf: ended } of [domain, { openOf, endedOf }]) {
    t.same([open(COUNTS), ended(COUNTS)], [15, 15])
  }
  t.match(progressOf(jobOf({})), / 50 % 15 of 30 ended, 6 failed, 60\/min, all out in 4 min$/)
  t.match(progressOf(jobOf({ state: 'paused', reason: 'admin' })), / 6 failed, paused \(admin\)$/)
  const counts = { ...COUNTS, waiting: 0, failed: 0, expired: 0 }
  t.match(progressOf(jobOf({ counts })), / 30 % 9 of 30 ended$/)
  t.same(
    jobList(() => NOW)
      .row(jobOf({}))
      .slice(2, 4),
    ['15/30', 6],
  )
})

/** The lines of `status` by their names. */
async function statusOf(fleet: object, jobs: readonly JobInList[]) {
  const none = { values: [], others: 0 }
  const empty = {
    devices: 0,
    online: 0,
    open_commands: {},
    last_contact: {},
    push: {},
    battery: {},
  }
  const responses = {
    healthz: { version: '1' },
    readFleet: { ...empty, status: {}, app_version: none, agent_version: none, ...fleet },
    listBuilds: { builds: [], next_cursor: null },
    listJobs: { jobs },
  }
  const lines: string[] = []
  const terminal = {
    print: async (line: string) => void lines.push(line),
    paint: (text: string) => text,
  }
  const context = { terminal, isJson: false, args: { words: [] }, api: () => apiOf(responses) }
  t.equal(await statusVerb.run(context as never), 0)
  return (name: string) => lines.find((line) => line.startsWith(name))?.replace(/ {2}\(.*/, '')
}

t.test('status: four versions and three jobs, and how many more there are', async (t) => {
  const valuesOf = (...counts: number[]) =>
    counts.map((devices, nth) => ({ value: `1.${nth}`, devices }))
  const jobs = ['a', 'b', 'c', 'd'].map((job_id) => jobOf({ job_id }))
  const fleet = {
    app_version: { values: valuesOf(32, 16, 8, 4, 2, 1), others: 64 },
    agent_version: { values: valuesOf(8, 4, 2, 1), others: 0 },
    open_jobs: 4,
  }
  const line = await statusOf(fleet, jobs)
  t.equal(line('app'), 'app        1.0 32, 1.1 16, 1.2 8, 1.3 4, others 67')
  t.equal(line('agent'), 'agent      1.0 8, 1.1 4, 1.2 2, 1.3 1')
  const [a, b, c] = ['a', 'b', 'c'].map((id) => `${id} 15/30 running`)
  t.equal(line('jobs'), `jobs       4 open: ${a}, ${b}, ${c}, and 1 more`)

  const paused = jobOf({ job_id: 'c', state: 'paused', reason: 'threshold' })
  const other = await statusOf({ open_jobs: 3 }, [...jobs.slice(0, 2), paused])
  t.equal(other('jobs'), `jobs       3 open: ${a}, ${b}, c 15/30 paused (threshold)`)
  t.equal(other('attention  job'), 'attention  job c has paused itself: 6 of 30 failed')
})

t.test('why: an empty battery, and how many phones are as long silent', async (t) => {
  const about = (device_id: string, last_status: object) => ({
    ...{ device_id, alias: device_id, enrollment_no: 1, enrolled_at: NOW.toISOString() },
    ...{ last_seen_at: '2026-03-01T00:00:00Z', offline_after_s: 600, push_token: 'none' },
    ...{ push_lowered_at: null, last_status },
  })
  const told = async (last_status: object, others: readonly string[], next_cursor: unknown) => {
    const phone = about('D01', last_status) as Device
    const devices = [phone, ...others.map((id) => about(id, {}))]
    const lists = { listDevices: { devices, next_cursor }, listCommands: { commands: [] } }
    return (await describePhone(apiOf(lists) as never, phone)).join('\n')
  }
  for (const [battery_pct, plugged, isEmpty] of [
    [15, false, true],
    [15, null, true],
    [15, true, false],
    [16, false, false],
    [null, false, false],
  ] as const) {
    const text = await told({ battery_pct, plugged }, [], null)
    t.equal(text.includes('likely empty'), isEmpty, `${battery_pct} ${plugged}`)
  }
  for (const [others, next_cursor, text] of [
    [[], null, 'no other phone'],
    [['D02'], null, '1 other phone'],
    [['D02', 'D03'], null, '2 other phones'],
    [['D02', 'D03'], 'more', 'at least 2 other phones'],
  ] as const) {
    t.match(await told({}, others, next_cursor), `\n  as long silent, 10 min or more: ${text}\n`)
  }
})

t.test('send: without a wait the command is not read again', async (t) => {
  const send = async (wait: string | undefined) => {
    const calls: unknown[] = []
    const lines: string[] = []
    const sent = { alias: 'D01', request_id: 'ring-1', status: 'queued', result: null }
    const phone = { alias: 'D01', device_id: '01a20000-0000-7000-8000-000000000001' }
    const preview = { devices: 1, sample: [phone], unreachable: { offline: 0, no_push: 0 } }
    const read = { ...sent, status: 'completed', result: { outcome: 'success', message: null } }
    const api = apiOf({ createJob: preview, sendCommand: sent, readCommand: read })
    const call = async (operation: string) => {
      calls.push(operation)
      return await api.call(operation)
    }
    const text = (name: string) => (name === 'wait' ? wait : undefined)
    const args = { words: ['ring', 'D01'], text, has: () => false }
    const terminal = {
      print: async (line: string) => void lines.push(line),
      farewell: () => {},
      progress: () => {},
    }
    const newId = () => 'x'
    const context = { terminal, isJson: true, args, api: () => ({ ...api, call }), newId }
    const code = await sendVerb.run(context as never)
    return { code, calls, statuses: lines.map((line) => JSON.parse(line).status) }
  }
  const accepted = { code: 0, calls: ['createJob', 'sendCommand'], statuses: ['queued'] }
  t.same([await send(undefined), await send('0s')], [accepted, accepted])
  const calls = [...accepted.calls, 'readCommand']
  t.same(await send('1s'), { code: 0, calls, statuses: ['completed'] })
})

t.test('doctor: a synchronous standby that is missing', async (t) => {
  const of = (synchronous: string, standbys: number) =>
    replicationFaults({ isMigrated: true, now: NOW, localDirectory: null, standbys, synchronous })
  t.match(of('*', 0), [{ area: 'replication', isGood: false, text: /: commits wait; bring a / }])
  t.same([...of('*', 1), ...of('', 0), ...of('', 1)], [])
})

t.test('what is misspelt or given twice is refused only if it could matter', async (t) => {
  const env = { FLEETLOOP_URLS: 'x', FLEETLOOP_TOKENS: 'x' }
  const [url, tokenFile] = ['http://127.0.0.1:9', '/token']
  const set = { ...env, FLEETLOOP_URL: url, FLEETLOOP_TOKEN: 'x' }
  t.match(await run('delete D01 --yes --yes'.split(' '), { env: set }), { code: 3 })
  for (const source of [
    { env: set },
    { env, url, tokenFile },
    { env: { ...env, FLEETLOOP_TOKEN_FILE: tokenFile }, url },
  ]) {
    t.doesNotThrow(() => refuseMisspelt(source))
  }
  const message = (meant: string) => ({ message: new RegExp(`did you mean ${meant}\\?$`) })
  t.throws(() => refuseMisspelt({ env, tokenFile }), message('FLEETLOOP_URL'))
  t.throws(() => refuseMisspelt({ env, url }), message('FLEETLOOP_TOKEN'))
  const signed = { ...set, ADMIN_HMAC_SECRETS: 'x' }
  t.throws(() => refuseMisspelt({ env: signed }), message('ADMIN_HMAC_SECRET'))
})
