/** `fleetloop jobs` and `job`, what `why` says of jobs and tokens, hostile texts in every list, and the program in a shell and on a terminal. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { listenFor } from '../helpers/listen.ts'
import { ADMIN, MAIN, startService } from '../helpers/service.ts'
import { type RunOptions, run } from './run.ts'

const service = await startService(t)
const env = { FLEETLOOP_URL: service.origin, FLEETLOOP_TOKEN: ADMIN }
const cli = (line: string, options: RunOptions = {}) =>
  run(line.split(' '), { cwd: service.dataDir, env, ...options })
const CLI = join(dirname(MAIN), 'cli.js')

const phones = [await service.enroll('STORE-1'), await service.enroll('STORE-2')] as const
await service.enroll('STORE-3')
const startJob = (body: Readonly<Record<string, unknown>>) =>
  service.call('POST', '/admin/jobs', { body: { where: 'alias:STORE-*', action: 'ring', ...body } })
/** When its first command is out. */
const isReleased = (id: string) =>
  until(async () => (await service.call('GET', `/admin/commands/${id}`)).status === 200)

await startJob({ job_id: 'slow', per_minute: 1, note: 'night shift' })
await isReleased('slow.1')

t.test('jobs and job: the list, the facts, the members', async (t) => {
  const { out } = await cli('jobs --state running')
  t.match(out, /^JOB +STATE +ENDED +FAILED +ACTION +WHERE +CREATED +BY +NOTE\n/)
  t.match(out, /\nslow +running +0\/3 +0 +ring +alias:STORE-\* +\d+ s ago +tester +night shift\n$/)
  const own = (await service.call('GET', '/admin/jobs')).body.jobs[0]
  t.match(JSON.parse((await cli('jobs --json')).out), { job_id: own.job_id, counts: own.counts })
  t.match(await cli('jobs --state done'), { code: 0, out: '', err: 'No job matches.\n' })
  t.match(await cli('jobs --state gone'), { code: 2, err: /^--state takes scheduled, running, / })

  const shown = await cli('job slow')
  t.match(shown, { code: 0, err: '', out: /^job +slow\naction +ring\nwhere +alias:STORE-\*\n/ })
  t.match(shown.out, /\npace +at most 1 a minute\nthreshold +none\nstate +running\n/)
  t.match(shown.out, /\nprogress +\[\.{20}\] 0 % 0 of 3 ended/)
  t.match(shown.out, /\nwaiting +2\nqueued +1\nverdict +releasing: 2 left to release/)
  t.match(JSON.parse((await cli('job slow --json')).out), { verdict: { code: 'releasing' } })
  t.match((await cli('job slow --status waiting')).out, /\nSTORE-2 +waiting +- +slow\.2 /)
  t.match(await cli('job slow --status lost'), { code: 2, err: /^--status takes waiting, queued/ })
  t.match(await cli('job none'), { code: 1, err: 'No job has the name none. fleetloop jobs\n' })
  t.match(await cli('job slow stop'), { code: 2, err: 'stop is none of pause, resume, abort.\n' })
  t.match(await cli('job slow --keep-open'), { code: 2 })
})

t.test('why: a job, a member that waits, a phone of it', async (t) => {
  const about = await cli('why slow')
  t.match(about, { code: 0, err: '' })
  t.match(about.out, /^job slow: ring for 3 phones \(alias:STORE-\*\), running; asked by tester /)
  t.match(about.out, /\n {2}releasing: 2 left to release.*\n {2}queued 1, waiting 2\n/)
  t.match(about.out, /\n {2}note: night shift\n {2}open: STORE-1 \(slow\.1\): device_never_seen: /)
  t.match((await cli('why slow.3')).out, /^job slow: /)
  t.match(await cli('why slow.4'), { code: 1, out: '' })
  t.match((await cli('why slow.1')).out, /^command slow\.1: ring for STORE-1, queued; /)
  t.match(JSON.parse((await cli('why slow --json')).out), { job_id: 'slow' })
})

t.test('why: an enrollment token, by its id and never by itself', async (t) => {
  const issue = async (body: Readonly<Record<string, unknown>>) =>
    (await service.call('POST', '/v1/enroll-tokens', { body })).body.tokens[0]
  const bound = await issue({ aliases: ['NEW-1'], note: 'shelf 3' })
  const unused = await cli(`why ${bound.token_id}`)
  t.match(unused.out, new RegExp(`^enrollment token ${bound.token_id} for NEW-1: not used yet: `))
  t.match(unused.out, /\n {2}made by tester \d+ s ago, used 0 of 1 times\n {2}good until 20/)
  t.match(unused.out, /\n {2}note: shelf 3\nphone NEW-1: not enrolled\n/)
  await service.call('DELETE', `/v1/enroll-tokens/${bound.token_id}`)
  const revoked = (await cli(`why ${bound.token_id.toUpperCase()}`)).out
  t.match(revoked, / for NEW-1: revoked: 401 token_revoked\n/)
  t.match(revoked, /\n {2}tester revoked it \d+ s ago\n/)
  const open = await issue({ aliases: [null], uses_allowed: 2 })
  t.match((await cli(`why ${open.token_id}`)).out, /^enrollment token \S+ for any phone: not used/)
  t.match(JSON.parse((await cli(`why ${open.token_id} --json`)).out), { token_id: open.token_id })
  const secret = await cli(`why ${bound.token}`)
  t.match(secret, { code: 2, out: '', err: /^That is a token itself, a secret: give its TOKEN ID/ })
})

t.test(
  '--watch without a terminal: a line for each verdict, until it ends or is paused',
  async (t) => {
    await startJob({ job_id: 'one', where: 'alias:STORE-1' })
    await isReleased('one.1')
    let failures = 0
    const flaky = createServer(async ({ url = '', headers }, response) => {
      failures += url.includes('wait_ms=30000') ? 1 : 0
      if (failures === 1) return void response.writeHead(503).end('{"code":"shutting_down"}')
      const own = { authorization: headers.authorization ?? '' }
      const received = await fetch(service.origin + url, { headers: own })
      response.writeHead(received.status).end(await received.text())
    })
    const FLEETLOOP_URL = `http://127.0.0.1:${await listenFor(t, flaky)}`
    const watching = cli('job one --watch', { env: { ...env, FLEETLOOP_URL } })
    await until(() => failures > 1)
    const result = { request_id: 'one.1', outcome: 'success' }
    await service.call('POST', '/v1/action-result', { token: phones[0].token, body: result })
    const watched = await watching
    t.match(watched, { code: 0, out: /\nstate +done\n/ })
    t.match(watched.err, /^waiting_for_devices: .*\ndone: 1 of 1 completed\.\n$/)

    t.match(await cli('job slow pause'), { code: 0, out: /\nstate +paused \(admin\)\n/ })
    t.match(await cli('job slow --watch'), { code: 1, err: /^paused_by_admin: tester paused it/ })
    t.match(await cli('job slow resume'), { code: 0, out: /\nstate +running\n/ })
    t.match(await cli('send ring STORE-* --wait 1s --id hasty --yes --json'), {
      code: 1,
      out: /^\{"job_id":"hasty".*"state":"running".*\}\n$/,
    })
  },
)

t.test('failures: the bar, the exit code, why, and status name them', async (t) => {
  await startJob({ job_id: 'bad', where: 'alias:STORE-1,STORE-2', max_failed_pct: 50 })
  await isReleased('bad.2')
  for (const [index, { token }] of phones.entries()) {
    const result = { request_id: `bad.${index + 1}`, outcome: 'failure', message: 'no speaker' }
    await service.call('POST', '/v1/action-result', { token, body: result })
  }
  const watched = await cli('job bad --watch', { width: 80 })
  t.match(watched, { code: 1, out: /\nfailed +2\n/ })
  t.match(watched.err, `\r\u001b[K`)
  t.match(await cli('job bad --watch --status failed'), { code: 1, out: /^ALIAS .*\nSTORE-1 / })
  t.match(watched.err, `[${'#'.repeat(20)}] 100 % 2 of 2 ended, 2 failed, done`)
  t.match((await cli('job bad')).out, /\nverdict +done_with_failures: .*"no speaker" \(2\)\.\n/)
  t.match((await cli('why bad')).out, /\n {2}failed: STORE-1 \(bad\.1\): failure: no speaker\n/)
  t.match((await cli('jobs')).out, /\nbad +done +2\/2 +2 +ring /)
  const db = await connect(t, service.databaseUrl)
  await db.query(`update jobs set state = 'paused', reason = 'threshold' where job_id = 'hasty'`)
  const { out } = await cli('status')
  t.match(
    out,
    /\njobs +2 open: hasty 0\/3 paused \(threshold\), slow 0\/3 running +\(fleetloop jobs\)/,
  )
  t.match(out, /\nattention +job hasty has paused itself: 0 of 3 failed +\(fleetloop why hasty\)/)
})

t.test(
  'on a terminal Ctrl-C leaves a watched job running, and says so',
  {
    skip: spawnSync('script', ['--version']).status !== 0 && 'no script(1)',
  },
  async (t) => {
    const command = `exec "${process.execPath}" "${CLI}" job slow --watch`
    const child = spawn('script', ['-qec', command, '/dev/null'], {
      env: { PATH: process.env['PATH'], TERM: 'xterm', ...env },
    })
    let shown = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      if (!shown.includes(' of 3 ended') && (shown + part).includes(' of 3 ended')) {
        child.stdin.write('\u0003')
      }
      shown += part
    })
    t.same((await once(child, 'close'))[0], 130)
    t.match(shown, /\[\.{20}\] 0 % 0 of 3 ended/)
    t.ok(shown.endsWith('\r\u001b[KJob slow goes on: fleetloop job slow --watch\r\n'), shown)
    t.match((await service.call('GET', '/admin/jobs/slow')).body, { state: 'running' })
  },
)

t.test('abort: asks where more than one command would be cancelled', async (t) => {
  t.match(await cli('job slow abort'), { code: 1, out: '', err: /repeat it with --yes/ })
  const asked = await cli('job slow abort', { typed: 'y\n', width: 80 })
  t.match(asked, { code: 0, out: /\nstate +aborted/ })
  t.match(asked.err, /Abort slow \(0 of 3 ended\) and cancel 3 commands\? \[y\/N\] /)
  t.match(await cli('job slow pause'), { code: 1, err: / 409 job_ended: / })
  t.match(await cli('job hasty abort --keep-open --yes'), { code: 0 })
  await until(async () => !(await cli('jobs --state running')).out.includes('slow'))
})

t.test('texts of phones and admins do not act on the terminal, wherever they stand', async (t) => {
  const db = await connect(t, service.databaseUrl)
  const evil = '\u001b[2J\u001b]0;renamed\u0007\u009b31m\u202e\u2066\r'
  // Older releases stored what this one refuses.
  await db.query(
    `update jobs set note = $1::text, selection = $1::text, params = jsonb_build_object($1::text, $1::text)`,
    [evil],
  )
  await db.query(
    `update devices set alias = $1::text, labels = jsonb_build_object($1::text, $1::text), model = $1::text
    where alias = 'STORE-3'`,
    [evil],
  )
  await db.query('update device_status set network_type = $1::text, app_version = $1::text', [evil])
  await db.query(
    `update commands set params = jsonb_build_object($1::text, $1::text), result_message = $1::text`,
    [evil],
  )
  await db.query('update enrollment_tokens set note = $1', [evil])
  await db.query(
    `update audit_log set detail = jsonb_build_object($1::text, $1::text), admin = $1::text`,
    [evil],
  )
  writeFileSync(join(service.dataDir, 'app.apk'), makeApk())
  await cli('publish app.apk')
  await db.query('update apk_builds set version_name = $1::text, published_by = $1::text', [evil])
  const { deviceId } = await service.enroll('STORE-4')
  await db.query(
    'update devices set model = $1::text, labels = jsonb_build_object($1::text, $1::text)',
    [evil],
  )
  for (const line of [
    ...['status', 'devices', `device ${deviceId}`, 'device STORE-1', 'commands', 'tokens', 'audit'],
    ...['builds', 'jobs', 'job bad', 'job bad --status failed', 'job slow --status cancelled'],
    ...['why bad', 'why bad.1', 'why STORE-1', `why ${evil}`, `job ${evil}`, `devices ${evil}`],
    ...[`send ${evil} STORE-1`, 'send ring STORE-* --dry-run', 'delete STORE-* --dry-run'],
  ]) {
    for (const argv of [line.split(' '), [...line.split(' '), '--json']]) {
      const { out, err } = await run(argv, { cwd: service.dataDir, env })
      t.notMatch(out + err, /(?!\n)[\p{Cc}\u202e\u2066]/u, JSON.stringify(argv))
    }
    const { out } = await run(line.split(' '), { env: { ...env, NO_COLOR: '1' }, width: 80 })
    t.notMatch(out, /(?!\n)[\p{Cc}\u202e\u2066]/u, JSON.stringify(line))
  }
})

t.test('whatever stands at the address, a sentence says it is none of ours', async (t) => {
  let reply: readonly [number, string] = [200, '']
  const other = createServer((request, response) => {
    request.resume().on('end', () => response.writeHead(reply[0]).end(reply[1]))
  })
  const FLEETLOOP_URL = `http://127.0.0.1:${await listenFor(t, other)}`
  const id = phones[0].deviceId
  writeFileSync(join(service.dataDir, 'app.apk'), makeApk())
  for (const each of [
    [200, ''],
    [200, 'null'],
    [200, '{}'],
    [200, '{"ok":true}'],
    [200, '<html>\u001b[2J</html>'],
    [502, '<html>Bad Gateway</html>'],
    [413, '<html>too large</html>'],
  ] as const) {
    reply = each
    for (const line of [
      ...['status', 'devices', `device ${id}`, 'why x', `erase ${id} --yes`, 'publish app.apk'],
      ...['send ring D01', 'job x', 'job x abort', 'cancel x', 'enroll X', 'withdraw x', 'audit'],
    ]) {
      const { code, out, err } = await cli(line, { env: { ...env, FLEETLOOP_URL } })
      t.same({ code, out }, { code: 3, out: '' }, `${line}: ${each}`)
      t.match(err, ` gives no answer of ours: ${each[0]}`)
    }
  }
})

t.test('a send whose answer is lost says with which id a repeat does not send twice', async (t) => {
  const losing = createServer(async (request, response) => {
    const body = await text(request)
    const { method = '', url = '', headers } = request
    const given = { method, headers: { ...headers } as Record<string, string> }
    const received = await fetch(service.origin + url, body === '' ? given : { ...given, body })
    const reply = await received.text()
    if (body === '' || body.includes('"dry_run":true'))
      response.writeHead(received.status).end(reply)
    else response.destroy()
  })
  const lost = { ...env, FLEETLOOP_URL: `http://127.0.0.1:${await listenFor(t, losing)}` }
  for (const line of ['send ring STORE-1', 'send ring STORE-* --yes']) {
    const { code, err } = await cli(line, { env: lost })
    t.equal(code, 3)
    const [, id = ''] = /repeat it with (--id ring-\w{12})\n/.exec(err) ?? []
    t.match(await cli(`${line} ${id}`), { code: 0, out: new RegExp(id.slice(5)) })
    t.equal((await cli(`why ${id.slice(5)}`)).code, 0, 'it was sent the first time')
  }
})

t.test('as a process: pipes, head, exit codes', async (t) => {
  const processEnv = { PATH: process.env['PATH'], ...env }
  const child = spawn(process.execPath, [CLI, 'audit', '--limit', '5'], { env: processEnv })
  const closed = once(child, 'close')
  const [out] = await Promise.all([text(child.stdout), text(child.stderr)])
  t.same([await closed, out.trimEnd().split('\n').length], [[0, null], 6])
  const script = `set -o pipefail
    fleetloop() { "${process.execPath}" "${CLI}" "$@"; }
    fleetloop audit --limit 1100 | head -1
    yes '{"level":"INFO","event":"a.b"}' 2> /dev/null | fleetloop tail | head -1 > /dev/null; echo "\${PIPESTATUS[1]}"`
  const db = await connect(t, service.databaseUrl)
  await db.query(`
    insert into audit_log (admin, what, subject, request_id)
    select 'tester', 'enrollment_token.revoke', 's-' || n, 'r' from generate_series(1, 1100) n`)
  const head = spawnSync('bash', ['-c', script], {
    env: processEnv,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.match(head, { status: 0, stderr: '', stdout: /^AT +WHO[^\n]*\n0\n$/ })
})
