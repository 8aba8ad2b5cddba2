/** `fleetloop`, verb by verb, against a real service. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { OPERATIONS } from '../../src/cli/api/openapi.ts'
import { scopesOf } from '../../src/cli/help.ts'
import { cells } from '../../src/cli/terminal/text.ts'
import { VERBS } from '../../src/cli/verbs.ts'
import { connect } from '../helpers/database.ts'
import { ADMIN, startService } from '../helpers/service.ts'
import { type RunOptions, run } from './run.ts'

const READER = 'reader-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const service = await startService(t, {
  env: { ADMIN_TOKENS: `tester=${ADMIN},reader:read=${READER}` },
})
const env = { FLEETLOOP_URL: service.origin, FLEETLOOP_TOKEN: ADMIN }
const cli = (line: string, options: RunOptions = {}) =>
  run(
    line.split(' ').map((word) => word.replace(/^'(.*)'$/, '$1')),
    {
      cwd: service.dataDir,
      ...options,
      env: { ...env, ...options.env },
    },
  )
const lines = (printed: string) => printed.trimEnd().split('\n')

const d01 = await service.enroll('D01', { model: 'R4S', manufacturer: 'Radxa' })
const beat = { status: 'ok', battery_pct: 87, network_type: 'wifi', app_version: '1.0.25' }
await service.call('POST', '/v1/heartbeat', { token: d01.token, body: beat })
await service.enroll('STORE-1')
await service.enroll('OLD-1')
const store2 = await service.enroll('STORE-2', { model: '小米 手机' })
const low = { status: 'error', battery_pct: 7, plugged: false, app_version: '1.0.24' }
await service.call('POST', '/v1/heartbeat', { token: store2.token, body: low })
await service.call('POST', '/admin/command?wait_ms=0', {
  body: { alias: 'D01', action: 'ring', request_id: 'ring-1' },
})
const db = await connect(t, service.databaseUrl)

t.test('status: the fleet in one screen', async (t) => {
  const { code, out, err } = await cli('status')
  t.same({ code, err }, { code: 0, err: '' })
  const printed = lines(out)
  t.match(printed[0], /^service {4}ready, version \S+ {2}\(http:\/\/127\.0\.0\.1:\d+\)$/)
  t.same(printed.slice(1), [
    'phones     4: 2 online, 2 offline  (fleetloop devices)',
    'heard of   within 5 min 2, never 2  (fleetloop devices --order seen)',
    'app        unknown 2, 1.0.24 1, 1.0.25 1  (fleetloop devices app:1.0.24)',
    'agent      unknown 4  (fleetloop devices)',
    'push       off 4  (fleetloop devices push:none,dead,off)',
    'commands   1 open: queued 1  (fleetloop commands)',
    'jobs       none open  (fleetloop jobs)',
    'builds     none is live  (fleetloop builds)',
    'attention  2 offline, 2 of them never heard of  (fleetloop devices online:false)',
    "attention  1 with a battery below 20 %  (fleetloop devices 'battery<20')",
    'attention  1 report warn or error  (fleetloop devices status:warn,error)',
  ])
  const own = (await service.call('GET', '/admin/fleet')).body
  t.same({ ...JSON.parse((await cli('status --json')).out), at: own.at }, own)
  t.match(lines((await cli("status 'STORE-*'")).out)[1], / 2: 1 online, .* devices 'STORE-\*'\)$/)
})

t.test('devices: a table, a selection, the API’s own objects', async (t) => {
  const all = lines((await cli('devices')).out)
  t.match(
    all[0],
    /^ALIAS +STATE +LAST SEEN +BATTERY +NETWORK +STATUS +APP +PUSH +MODEL +ANDROID +DEVICE ID$/,
  )
  t.same(
    all.slice(1).map((line) => line.split(/ +/)[0]),
    ['D01', 'OLD-1', 'STORE-1', 'STORE-2'],
  )
  t.match(
    all[1],
    new RegExp(
      `^D01 +online +\\d+ s ago +87 % +wifi +ok +1\\.0\\.25 +none +R4S +- +${d01.deviceId}$`,
    ),
  )
  for (const [where, found] of [
    ["'STORE-*'", ['STORE-1', 'STORE-2']],
    ["'battery>50'", ['D01']],
    ['alias:STORE-1,D01', ['D01', 'STORE-1']],
    ['D01', ['D01']],
    [`device:${d01.deviceId}`, ['D01']],
    ["'seen>30m'", ['OLD-1', 'STORE-1']],
    ["'STORE-*' 'seen>30m'", ['STORE-1']],
    ["'S.ORE-*'", []],
  ] as const) {
    const { code, out, err } = await cli(`devices ${where} --json`)
    t.same({ code, err }, { code: 0, err: '' }, where)
    const parsed = out
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
    t.same(
      parsed.map(({ alias }) => alias),
      found,
      where,
    )
    const own = (await service.call('GET', `/admin/devices?alias=D01`)).body.devices[0]
    if (where === 'D01') t.same(parsed[0], own)
  }
  t.match(await cli('devices NOBODY'), { code: 0, out: '', err: 'No phone matches.\n' })
  t.match(await cli('devices batery<20'), { code: 1, err: /did you mean `battery`/ })
  t.match(await cli('devices --order name'), { code: 2, err: /^--order takes alias/ })
  t.equal((await cli('label D01 site=zrh')).err, '1 of 1 phones changed\n')
  t.match((await cli('device D01')).out, /\nlabels {7}site=zrh\n/)
  t.match(await cli("label 'STORE-*' site=x"), { code: 1, out: '', err: /repeat it with --yes/ })
  t.match(await cli('history D01'), {
    code: 0,
    out: /^battery ▇\nFROM \(UTC\) .*\n\S+ \S+ +1 +87 % +ok +wifi/,
  })
  t.match(await cli('history D99'), { code: 1, err: /^No phone has the name D99/ })
})

t.test('device, why and commands: everything of one phone', async (t) => {
  const { code, out } = await cli('device D01')
  t.equal(code, 0)
  t.match(out, /^alias {8}D01\ndevice id {4}\S+\n/)
  t.match(out, /\nmodel {8}Radxa R4S\n/)
  t.match(out, /\nstate {8}online, last seen \d+ s ago\n/)
  t.match(
    out,
    /\nSENT +ALIAS +ACTION .*\n\d+ s ago +D01 +ring +queued +- +ring-1 +tester +off +-\n$/,
  )
  t.equal((await cli(`device ${d01.deviceId}`)).out.split('\n')[0], 'alias        D01')
  t.match(await cli('device STORE-1'), {
    out: /\nbattery {6}-\n/,
    err: 'No command was ever sent to it.\n',
  })
  t.match(await cli('device D99'), {
    code: 1,
    out: '',
    err: 'No phone has the name D99. fleetloop why D99\n',
  })

  const why = await cli('why ring-1')
  t.match(why, { code: 0, err: '', out: /^command ring-1: ring for D01, queued; / })
  t.match(JSON.parse((await cli('why ring-1 --json')).out), { verdict: { code: 'push_off' } })
  t.match(JSON.parse((await cli('why D01 --json')).out), { device_id: d01.deviceId })
  t.match(await cli('why D99'), { code: 1, out: '', err: /^No phone, no command, no job and no / })

  t.match((await cli('commands D01')).out, /\n\d+ s ago +D01 +ring +queued /)
  t.match(await cli('commands --status completed'), { code: 0, err: 'No command matches.\n' })
  t.match(await cli('commands --status gone'), { code: 2, err: /^--status takes queued, sent, / })
  t.match(await cli('commands D99'), { code: 1, err: /^No phone has the name D99/ })
})

t.test('audit: who did what, and how many more there are', async (t) => {
  const { out, err } = await cli('audit --limit 2')
  t.match(lines(out), [
    /^AT +WHO +WHAT +SUBJECT +FROM +DETAIL$/,
    / tester +devices\.label +\S+ +127\.0\.0\.1 +/,
    /./,
  ])
  t.equal(err, '2 shown, and there are more: --limit N\n')
  t.match(
    (await cli('audit --since 1h --alias D01 --admin tester')).out,
    /enrollment_token\.create/,
  )
  t.match(await cli('audit --since yesterday'), { code: 2, err: /^--since takes a duration/ })
})

t.test('a list of many pages is one table', async (t) => {
  await db.query(`
    insert into audit_log (admin, what, subject, request_id)
    select 'tester', 'enrollment_token.revoke', 's-' || n, 'r' from generate_series(1, 1100) n`)
  const { out, err } = await cli('audit --limit 1050')
  t.equal(lines(out).length, 1051)
  t.equal(out.match(/^AT /gm)?.length, 1)
  t.equal(err, '1050 shown, and there are more: --limit N\n')
})

t.test('on a terminal the table fits, and colours are for a terminal alone', async (t) => {
  for (const width of [40, 80, 200]) {
    for (const line of ['status', 'devices', 'device D01', 'commands', 'audit', 'builds']) {
      const { out } = await cli(line, { width, env: { NO_COLOR: '1' } })
      for (const printed of lines(out)) t.ok(cells(printed) <= width, `${width}: ${printed}`)
      t.notMatch(out, '\u001b')
    }
  }
  t.ok((await cli('devices', { width: 200 })).out.startsWith('\u001b[1mALIAS '))
  t.notMatch((await cli('devices', { width: 200, env: { TERM: 'dumb' } })).out, '\u001b')
  t.notMatch((await cli('devices')).out, '\u001b')
})

t.test('a phone’s text does not act on the terminal', async (t) => {
  const evil = `\u001b[31m\u202e\u009b2J`
  // Older releases stored what this one refuses.
  await db.query('update devices set model = $1 where alias = $2', [evil, 'STORE-1'])
  for (const line of ['devices', 'devices --json', 'device STORE-1']) {
    const { out } = await cli(line)
    t.notMatch(out, /(?!\n)[\p{Cc}\p{Cf}]/u, line)
  }
  t.match((await cli('devices')).out, '\\x1b[31m\\u{202e}\\x9b2J')
})

t.test('where the service is and who asks', async (t) => {
  const token = join(service.dataDir, 'a-token')
  writeFileSync(token, `${READER}\n`)
  const url = { FLEETLOOP_URL: service.origin, FLEETLOOP_TOKEN: '' }
  t.equal((await cli(`devices --token-file ${token}`, { env: url })).code, 0)
  t.equal((await cli('devices', { env: { ...url, FLEETLOOP_TOKEN_FILE: token } })).code, 0)
  writeFileSync(join(service.dataDir, 'admin-token'), ADMIN)
  t.equal((await cli('devices', { env: { ...url, DATA_DIR: service.dataDir } })).code, 0)
  t.equal(
    (await cli(`devices --url ${service.origin}`, { env: { FLEETLOOP_URL: 'nothing' } })).code,
    0,
  )
  t.match(await cli('devices', { env: { ...url, DATA_DIR: '/nowhere' } }), {
    code: 2,
    err: /^FLEETLOOP_TOKEN is not set\.\nGive /,
  })
  t.match(await cli('devices --token-file /nowhere'), {
    code: 2,
    err: /^\/nowhere cannot be read: /,
  })
  t.match(await cli('devices', { env: { FLEETLOOP_TOKEN: 'x'.repeat(40) } }), {
    code: 1,
    err: /answers 401 token_unknown/,
  })
  t.match(await cli('devices', { env: { FLEETLOOP_URL: 'http://127.0.0.1:9' } }), {
    code: 3,
    err: /gives no answer of ours/,
  })
  t.match(await cli('devices', { env: { FLEETLOOP_URL: 'http://10.0.0.1' } }), {
    code: 2,
    err: /the token would go to/,
  })
  t.notMatch((await cli('devices --url http://me:secret@10.0.0.1')).err, 'secret')
})

t.test('usage: help, near misses, exit code 2', async (t) => {
  const overview = await cli('--help')
  t.equal(overview.code, 0)
  for (const { name, summary } of VERBS)
    t.match(overview.out, new RegExp(`\\n {2}${name} +${summary}\\n`))
  t.match(await run([]), { code: 2, out: overview.out, err: '' })
  t.match(await cli('--version'), { code: 0, out: '1.2.3\n' })
  t.match(await cli('devcies'), { code: 2, err: /^devcies is no verb\. Is devices meant\?\n/ })
  t.match(await cli('commands --statu x'), {
    code: 2,
    err: /^Unknown option '--statu'\. Is --status meant\?\n/,
  })
  t.match(await cli('--url x status'), { code: 2, err: /^Options stand behind the verb: / })
  t.match(await cli('send ring D01 --note -x'), {
    code: 2,
    err: /^Option '--note' argument is ambiguous\. .* use '--note=-XYZ'\.\n/,
  })
  t.match(await cli('publish /proc/self/mem'), { code: 2, err: / cannot be read: / })
  for (const line of ['history D01', 'audit']) {
    t.equal((await cli(`${line} --since 999999999d`)).code, 0, line)
  }
  t.match(await cli('why'), {
    code: 2,
    err: /^usage: fleetloop why ALIAS \| DEVICE_ID \| COMMAND \| JOB \| TOKEN_ID\n/,
  })
  for (const verb of VERBS) {
    const { code, out } = await run([verb.name, '--help'])
    t.equal(code, 0)
    t.match(out, new RegExp(`^usage: fleetloop ${verb.name}`))
    t.same((await run(['help', verb.name])).out, out)
    for (const line of [...out.split('\n'), ...overview.out.split('\n')]) {
      t.ok(line.length <= 100, line)
    }
    for (const name of Object.keys(verb.options)) t.match(out, `\n  --${name}`)
    for (const call of verb.calls) t.ok(call in OPERATIONS)
  }
  t.equal(scopesOf({ ...VERBS[0], calls: ['listDevices', 'listCommands'] } as never), 'read')
  t.equal(
    scopesOf({ ...VERBS[0], calls: ['listDevices', 'sendCommand'] } as never),
    'read and command, or admin',
  )
  t.equal(scopesOf({ ...VERBS[0], calls: ['listDevices', 'deleteDevice'] } as never), 'admin')
  t.equal(scopesOf({ ...VERBS[0], calls: ['healthz'] } as never), '')
})

t.test('each example of the help works', async (t) => {
  writeFileSync(join(service.dataDir, 'app.apk'), makeApk())
  await service.enroll('OLD-2')
  const job = { job_id: 'reboot-1', where: 'alias:STORE-*', action: 'reboot' }
  await service.call('POST', '/admin/jobs', { body: job })
  writeFileSync(join(service.dataDir, 'fleetloop.log'), `${service.lines.raw.join('\n')}\n`)
  const found = (await cli("tail fleetloop.log --once --where 'STORE-*' --event register.success"))
    .out
  t.match(found, / STORE-1 .*\n.* STORE-2 /)
  t.notMatch(found, 'OLD-1')
  t.match(await cli('tail fleetloop.log --where NOBODY'), { code: 1, err: 'No phone matches.\n' })
  writeFileSync(join(service.dataDir, 'phones.csv'), 'alias,note\nE1,shelf 3\nE2,"a, b"\n')
  for (const { name, examples } of VERBS) {
    t.ok(examples.length > 0, name)
    for (const example of examples) {
      const { code, err } = await cli(example)
      t.equal(code, 0, `${example}: ${err}`)
    }
  }
})
