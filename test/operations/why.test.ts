/** `why`, as the pager types it: what it says of commands, phones and APKs, and of what keeps it from knowing. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { type ApkOptions, makeApk } from '../../sim/apk.ts'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { createApi } from '../../src/cli/api/client.ts'
import { duration } from '../../src/cli/terminal/ago.ts'
import { plain } from '../../src/cli/terminal/text.ts'
import { explain } from '../../src/cli/why/explain.ts'
import { freePort } from '../../testkit/listen.ts'
import { until } from '../../testkit/until.ts'
import { databaseOutage } from '../docs/commands/night.ts'
import { connect } from '../helpers/database.ts'
import { listenFor } from '../helpers/listen.ts'
import { ADMIN, MAIN, type Running, startService } from '../helpers/service.ts'

const READER = 'reader-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const ENROLLER = 'enroller-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const WHY = join(dirname(MAIN), 'why.js')

interface Told {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function why(env: NodeJS.ProcessEnv, ...names: readonly string[]): Promise<Told> {
  const child = spawn(process.execPath, [WHY, ...names], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const closed = once(child, 'close')
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  const [code] = await closed
  return { code, out, err }
}

/** What `why` prints, by the token that can only read; the first test compares it with that of the process. */
async function told(service: Running, name: string): Promise<string> {
  const api = createApi({ origin: service.origin, token: READER, hmacSecret: undefined })
  return `${(await explain(api, name)).join('\n')}\n`
}

const ADMIN_TOKENS = `tester=${ADMIN},reader:read=${READER},enroller:enroll=${ENROLLER}`
const service = await startService(t, { env: { ADMIN_TOKENS, DEVICE_OFFLINE_S: '600' } })
const db = await connect(t, service.databaseUrl)

t.test('a command: what keeps it, and that it ran', async (t) => {
  const { token } = await service.enroll('D01')
  await service.call('POST', '/v1/heartbeat', { token, body: { battery_pct: 87, plugged: true } })
  const body = { alias: 'D01', action: 'ring', request_id: 'ring-1' }
  await service.call('POST', '/admin/command', { body })
  const waiting = await told(service, 'ring-1')
  const env = { FLEETLOOP_URL: service.origin, FLEETLOOP_TOKEN: READER }
  const printed = await why(env, 'ring-1')
  const ageless = (text: string) => text.replace(/\d+ s ago/g, 'now')
  t.same({ ...printed, out: ageless(printed.out) }, { code: 0, out: ageless(waiting), err: '' })
  t.match(waiting, /^command ring-1: ring for D01, queued; asked by tester \d+ s ago\n/)
  t.match(waiting, '\n  push_off: No FCM credentials are configured; the next heartbeat')
  t.match(waiting, /\n {2}\S+Z {2}accepted\n/)
  t.match(waiting, /\nphone D01 \(\S+\): online, last heard of \d+ s ago\n/)

  const result = { request_id: 'ring-1', outcome: 'failure', message: 'no\u001b[31m speaker' }
  await service.call('POST', '/v1/action-result', { token, body: result })
  const ran = await told(service, 'ring-1')
  t.match(ran, 'command ring-1: ring for D01, completed;')
  t.match(ran, '\n  failed_on_device: The device reported failure')
  t.match(
    ran,
    '\n  the phone says: no\uFFFD[31m speaker\n',
    'no control character reaches the terminal',
  )
  t.match(ran, 'no open command; the last: ring-1 (ring, completed),')

  const text = `insert into command_events (request_id, stage, detail, instance)
    select 'ring-1', 'push_failed', jsonb_build_object('left_out', nullif(n / 14 * 30, 0)), 'one'
    from generate_series(1, 14) n`
  await db.query(text)
  t.match(await told(service, 'ring-1'), '\n  … 34 earlier steps\n', 'those left out among them')
})

t.test('a command that push does not bring: no push token, FCM away, its time over', async (t) => {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  fcm.setMode({ fcm: { mode: 'unavailable', retryAfter: '600' } })
  const service = await startService(t, {
    env: {
      ADMIN_TOKENS,
      ...pushSettings(fcm),
    },
  })
  for (const [alias, about] of [
    ['P01', {}],
    ['P02', { fcm_token: 'push-2' }],
  ] as const) {
    const { token } = await service.enroll(alias, about)
    await service.call('POST', '/v1/heartbeat', { token, body: {} })
    const body = { alias, action: 'ring', request_id: `of-${alias}` }
    await service.call('POST', '/admin/command?wait_ms=0', { body })
  }
  const mute = await told(service, 'of-P01')
  t.match(mute, '\n  no_push_token: The device gave no push token; the next heartbeat delivers it.')
  t.match(mute, '\n  push token: none, only heartbeats bring commands\n')
  const pushState = async () =>
    (await service.call('GET', '/admin/commands/of-P02')).body.push.state
  await until(async () => (await pushState()) === 'backoff')
  const waiting = await told(service, 'of-P02')
  t.match(waiting, /\n {2}push_backoff: The last push failed; .* Its last push: 503 UNAVAILABLE\./)
  t.match(waiting, /\n {2}\S+Z {2}push_failed UNAVAILABLE\n/)
  const db = await connect(t, service.databaseUrl)
  await db.query('update commands set expires_at = now()')
  const over = await told(service, 'of-P02')
  t.match(over, /^command of-P02: ring for P02, expired; .*\n {2}expired: No result came before /)
})

t.test('a phone: how it is, and what waits for it', async (t) => {
  const { token } = await service.enroll('D02', { fcm_token: 'push-2' })
  t.match(await told(service, 'D02'), /: never heard of since it enrolled\n/)
  t.match(await told(service, 'D02'), '  no heartbeat of it ever came:')
  const beat = { battery_pct: 4, plugged: false, network_type: 'lte', app_version: '1.7' }
  await service.call('POST', '/v1/heartbeat', { token, body: beat })
  for (const id of ['w-1', 'w-2', 'w-3', 'w-4', 'w-5']) {
    const body = { alias: 'D02', action: 'ping', request_id: id }
    await service.call('POST', '/admin/command?wait_ms=0', { body })
  }
  const online = await told(service, 'D02')
  const [, printedId = ''] = /^phone D02 \((\S+)\)/.exec(online) ?? []
  const ageless = (said: string) => said.replace(/\d+ s ago/g, 'now')
  for (const id of [printedId, printedId.toUpperCase()]) {
    t.equal(ageless(await told(service, id)), ageless(online), 'it takes the id that it prints')
  }
  t.match(online, '  it said: ok, battery 4 %, not plugged in, lte, app 1.7\n')
  t.match(online, '  push token: live\n  enrolled once, ')
  const failing = { battery_pct: 4, status: 'critical', fid: 'fid-1' }
  await service.call('POST', '/v1/heartbeat', { token, body: failing })
  const afterwards = await told(service, 'D02')
  t.match(afterwards, '  it said: status unknown, battery 4 %\n')
  t.match(afterwards, '  push FID: live\n')
  await service.call('POST', '/v1/heartbeat', { token, body: { ...beat, status: 'ERROR' } })
  t.match(await told(service, 'D02'), '  it said: error, battery 4 %, ')
  t.match(online, /\n {2}open command w-5 \(ping, \d+ s ago\): push_off: /)
  t.match(online, '\n  and 2 more open commands\n')

  const silence = (time: string) =>
    db.query(
      `update device_status set last_seen_at = now() - $1::interval
        where device_id in (select device_id from devices where alias = 'D02')`,
      [time],
    )
  await silence('9 minutes 30 seconds')
  t.match(await told(service, 'D02'), 'online, last heard of 9 min ago\n')
  await silence('11 minutes 30 seconds')
  t.match(await told(service, 'D02'), 'offline, last heard of 11 min ago\n')
  await silence('3 days 1 hour')
  const silent = await told(service, 'D02')
  t.match(silent, 'offline, last heard of 3 d ago\n')
  t.match(silent, '\n  its battery was low: likely empty\n')
  t.match(silent, '\n  as long silent, 10 min or more: no other phone\n')
  t.match(silent, `select(.alias == "D02" and .status_code >= 400)`)
})

t.test('a phone that is refused: enrolled anew, deleted, or never enrolled', async (t) => {
  await service.enroll('D03')
  const { deviceId } = await service.enroll('D03')
  const command = { alias: 'D03', action: 'ring', request_id: 'ring-3' }
  await service.call('POST', '/admin/command?wait_ms=0', { body: command })
  t.match(await told(service, 'D03'), /enrolled 2 times, last .*refused, 401 token_superseded\n/)
  await service.call('DELETE', `/admin/devices/${deviceId}`)
  const deleted = await told(service, 'D03')
  t.match(deleted, 'phone D03: not enrolled\n  tester deleted it ')
  t.match(deleted, 'its token is refused, 410 device_deleted\n')
  t.match(deleted, / is used up: 401 token_exhausted\n/)
  await db.query(`
    with since as (
      insert into audit_log (admin, what, subject, request_id, detail)
      select 'tester', 'enrollment_token.create', 's-' || n, 'r', jsonb_build_object('alias', 'since-' || n)
      from generate_series(1, 600) n)
    insert into enrollment_tokens (token_id, token_hash, alias, uses_allowed, expires_at, issued_by, request_id)
    select gen_random_uuid(), sha256(convert_to('since-' || n, 'UTF8')), 'since-' || n, 1, now(), 'other', 'r'
    from generate_series(1, 600) n`)
  const ageless = (said: string) => said.replace(/\d+ s ago/g, 'now')
  t.equal(ageless(await told(service, 'D03')), ageless(deleted), 'whatever was done since')

  const byId = await told(service, deviceId)
  t.ok(byId.startsWith(`phone D03 (${deviceId}): deleted `), byId)
  t.match(byId, / s ago\nphone D03: not enrolled\n/)

  const { deviceId: successorId } = await service.enroll('D03')
  const successor = '\n  its phone was deleted; another one has the alias now:\nphone D03 ('
  t.match(await told(service, 'ring-3'), successor)
  t.match(
    await told(service, deviceId),
    ` s ago\n  another one has the alias now:\nphone D03 (${successorId}): `,
  )

  const asked = { body: { aliases: ['D04'] } }
  const { body } = await service.call('POST', '/v1/enroll-tokens', asked)
  t.match(await told(service, 'D04'), / is not used yet: the phone never came/)
  await service.call('DELETE', `/v1/enroll-tokens/${body.tokens[0].token_id}`)
  t.match(await told(service, 'D04'), / is revoked: 401 token_revoked\n/)
})

t.test('the live APK is the one that phones are given', async (t) => {
  t.match(await told(service, 'D01'), '\nlive APK: none, downloads are 404 apk_none\n')
  const publish = (id: string, options: ApkOptions, query = '') => {
    const raw = makeApk({ seed: id, ...options })
    return service.call('PUT', `/admin/apk/builds/${id}${query}`, { raw })
  }
  await publish('b7', { versionCode: 7, versionName: '1.7' })
  await publish('b9', { versionCode: 9 })
  await publish('b8', { versionCode: 8 })
  await publish('again-8', { versionCode: 8 })
  await publish('b10', { versionCode: 10 }, '?release=staged')
  await publish('r1', { isDebuggable: false })
  await publish('other', { packageName: 'com.example.other', versionCode: 3 })
  await service.call('DELETE', '/admin/apk/builds/b9')
  const given = async (type: string) =>
    (await service.call('HEAD', `/v1/apk/download-latest?build_type=${type}`)).headers.get(
      'x-apk-build-id',
    )
  const said = await told(service, 'D01')
  t.match(
    said,
    `\nlive APK, com.example.app debug: ${await given('debug')}, version 8, published by tester `,
  )
  t.match(said, `\nlive APK, com.example.app release: ${await given('release')}, version 1, `)
  t.match(said, '\nlive APK, com.example.other debug: other, version 3, ')
})

t.test('what keeps it from knowing is said in a sentence, and is the exit code', async (t) => {
  const url = { FLEETLOOP_URL: service.origin }
  t.match(await why({ ...url, FLEETLOOP_TOKEN: READER }, 'D77'), {
    code: 1,
    out: '',
    err: 'No phone, no command, no job and no enrollment token here has the name D77.\n',
  })
  t.match(await why({ ...url, FLEETLOOP_TOKEN: READER }, '../Zürich'), {
    code: 1,
    err: /^No phone/,
  })
  const asked = { ...url, FLEETLOOP_TOKEN: READER }
  for (const [env, names, err] of [
    [url, ['D01'], 'FLEETLOOP_TOKEN is not set.\nusage: why '],
    [asked, [], 'A name is missing.\nusage: why '],
    [asked, [''], 'A name is missing.\nusage: why '],
    [asked, ['D01', 'D02'], 'One name at a time, please.\nusage: why '],
    [asked, ['D01', '--json'], "Unknown option '--json'."],
    [asked, ['-v'], "Unknown option '-v'."],
    [asked, ['--help=yes'], "Option '-h, --help' does not take an argument"],
    [{ ...asked, FLEETLOOP_URL: 'here' }, ['D01'], 'FLEETLOOP_URL is no URL: here\nusage: why '],
    [
      { ...asked, FLEETLOOP_URL: `${service.origin}/base` },
      ['D01'],
      'FLEETLOOP_URL takes a scheme',
    ],
    [
      { ...asked, FLEETLOOP_URL: `${service.origin}/?a=b` },
      ['D01'],
      'FLEETLOOP_URL takes a scheme',
    ],
    [{ ...asked, FLEETLOOP_TOKEN: `${READER}\nmore` }, ['D01'], 'FLEETLOOP_TOKEN holds a space'],
    [{ ...asked, FLEETLOOP_TOKEN: `${READER}…` }, ['D01'], 'FLEETLOOP_TOKEN holds a space'],
  ] as const) {
    const said = await why(env, ...names)
    t.match(said, { code: 2, out: '' })
    t.ok(said.err.startsWith(err), said.err)
  }
  for (const names of [['--help'], ['-h'], ['--help', 'D01']]) {
    t.match(await why({}, ...names), { code: 0, out: /^usage: why <alias \| device_id/, err: '' })
  }
  t.match(await why(asked, '--', '--help'), { code: 1, err: / has the name --help\.\n$/ })
  t.match(await why(asked, 'a\u001b[2J\u202e'), { code: 1, err: / has the name a \[2J \.\n$/ })
  t.match(await why({ ...url, FLEETLOOP_TOKEN: 'no-such-token' }, 'D01'), {
    code: 1,
    err: /answers 401 token_unknown: .* FLEETLOOP_TOKEN\?\n$/,
  })
  t.match(await why({ ...url, FLEETLOOP_TOKEN: ENROLLER }, 'D01'), {
    code: 1,
    err: / answers 403 forbidden: This admin token lacks the scope: /,
  })
  for (const [nobody, reason] of [
    ['http://127.0.0.1:9', 'bad port'], // one that fetch does not ask
    [`http://127.0.0.1:${await freePort()}`, 'ECONNREFUSED'],
    [`http://localhost:${await freePort()}`, 'ECONNREFUSED'],
    ['https://no-such-host.invalid', 'E'], // ENOTFOUND, or EAI_AGAIN where nobody resolves names
    [`https://127.0.0.1:${await freePort()}`, 'ECONNREFUSED'],
  ] as const) {
    const said = await why({ FLEETLOOP_URL: nobody, FLEETLOOP_TOKEN: READER }, 'D01')
    t.equal(said.code, 1)
    t.ok(said.err.startsWith(`${nobody} gives no answer of ours: ${reason}`), said.err)
    t.match(said.err, /\. FLEETLOOP_URL\?\n$/)
  }

  for (const FLEETLOOP_URL of [
    'http://fleet.example:8080',
    'http://127.0.0.1.example',
    'http://10.0.0.1',
    'ftp://127.0.0.1',
  ]) {
    t.match(await why({ FLEETLOOP_URL, FLEETLOOP_TOKEN: READER }, 'D01'), {
      code: 2,
      out: '',
      err: /^FLEETLOOP_URL: the token would go to \S+ in clear\. Give https:\/\//,
    })
  }

  const other = createServer((_, response) => response.writeHead(404).end('{"error":"nothing"}'))
  const port = await listenFor(t, other)
  const another = { FLEETLOOP_URL: `http://127.0.0.1:${port}`, FLEETLOOP_TOKEN: READER }
  t.match(await why(another, 'D01'), { code: 1, err: / no answer of ours: 404\. FLEETLOOP_URL\?/ })
})

t.test('without its database the service says so, and why', async (t) => {
  await databaseOutage(t, service, async () => {
    const env = { FLEETLOOP_URL: service.origin, FLEETLOOP_TOKEN: READER }
    t.match(await why(env, 'D01'), {
      code: 1,
      err: /answers 503 db_unavailable: .* Phones are told the same\.\n {2}database: /,
    })
  })
})

t.test('durations are said as people say them', async (t) => {
  for (const [ms, said] of [
    [-5, '0 s'],
    [119_999, '119 s'],
    [120_000, '2 min'],
    [7_199_999, '119 min'],
    [7_200_000, '2 h'],
    [172_799_999, '47 h'],
    [172_800_000, '2 d'],
  ] as const) {
    t.equal(duration(ms), said)
  }
  t.equal(plain('a\u0007\u202e\u2028b'), 'a   b')
})
