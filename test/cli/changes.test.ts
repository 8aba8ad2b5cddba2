/** The verbs of `fleetloop` that change something: previews, questions, refusals, what is done and what is not. */
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { listenFor } from '../helpers/listen.ts'
import { ADMIN, startService } from '../helpers/service.ts'
import { type RunOptions, run } from './run.ts'

const SECRET = 'signing-secret-Qd8vXr2kWz9mBt4sLh7cYp3n'
const service = await startService(t, { env: { ADMIN_HMAC_SECRET: SECRET } })
const env = {
  FLEETLOOP_URL: service.origin,
  FLEETLOOP_TOKEN: ADMIN,
  ADMIN_HMAC_SECRET: SECRET,
}
const cli = (argv: string, options: RunOptions = {}) =>
  run(argv.split(' '), { cwd: service.dataDir, env, ...options })
const lines = (printed: string) => printed.trimEnd().split('\n')
const enroll = async (alias: string) => {
  const { out } = await cli(`enroll ${alias} --json`)
  const { token } = JSON.parse(out)
  return (await service.call('POST', '/v1/register', { token, body: {} })).body
}

const store1 = await enroll('STORE-1')
for (const alias of ['STORE-2', 'STORE-3', 'D01']) await enroll(alias)

t.test('a change is signed where the service asks for it', async (t) => {
  const unsigned = { ...env, ADMIN_HMAC_SECRET: '' }
  const refused = await cli('enroll X1', { env: unsigned })
  t.match(refused, { code: 1, err: / 401 signature_invalid: .* Is ADMIN_HMAC_SECRET / })
  const file = join(service.dataDir, 'signing-secret')
  writeFileSync(file, `${SECRET}\n`)
  const fromFile = { ...unsigned, ADMIN_HMAC_SECRET_FILE: file }
  t.match(await cli('enroll X1', { env: fromFile }), { code: 0, err: '' })
})

t.test('status and why: whose pushes FCM slows down', async (t) => {
  const db = await connect(t, service.databaseUrl)
  const since = async (ago: string) => {
    const text = `update device_status set push_lowered_at = now() - $2::interval where device_id = $1`
    await db.query(text, [store1.device_id, ago])
  }
  await since('6 days')
  t.match((await cli('status')).out, '1 with lowered push priority: show notifications')
  t.match((await cli('why STORE-1')).out, /push token: .*; FCM lowers the priority of its messages/)
  await since('8 days')
  t.notMatch((await cli('status')).out, 'priority')
  t.notMatch((await cli('why STORE-1')).out, 'priority')
  await db.query('update device_status set push_lowered_at = null')
})

t.test(
  'send to one phone: at once, with its parameters, and it waits for the result',
  async (t) => {
    const sending = cli('send ring D01 seconds=5 text=a=b --ttl 1h --id ring-1')
    t.match(await sending, {
      code: 0,
      err: '',
      out: /^ALIAS +COMMAND +STATUS +OUTCOME +MESSAGE\nD01 +ring-1 +queued +- +-\n$/,
    })
    t.match((await service.call('GET', '/admin/commands/ring-1')).body, {
      action: 'ring',
      params: { seconds: '5', text: 'a=b' },
    })
    const waiting = cli('send ring STORE-1 --id ring-2 --wait 30s')
    const result = { request_id: 'ring-2', outcome: 'failure', message: 'no speaker' }
    await until(async () => (await service.call('GET', '/admin/commands/ring-2')).status === 200)
    const reported = { token: store1.device_token, body: result }
    t.match(await service.call('POST', '/v1/action-result', reported), { status: 200 })
    t.match(await waiting, { code: 1, out: / ring-2 +completed +failure +no speaker\n$/ })
    t.match(await cli('send ring STORE-1 --wait 1s --id late'), {
      code: 1,
      out: / late +queued +- /,
    })
    t.match(await cli('send ring D99'), { code: 1, out: '', err: 'No phone matches.\n' })
    t.match(await cli('send dance D01'), { code: 1, out: '', err: / 422 action_unknown: / })
    t.match(await cli('send ring D01 loud'), { code: 2, err: /^loud is no KEY=VALUE\./ })
    t.match(await cli('send ring D01 a=1 a=2'), { code: 2, err: 'a= is given twice.\n' })
    t.match(await run(['send', 'ring', ' '], { env }), { code: 2, err: /^WHERE is empty; / })
    t.match(await cli('send ring D01 --ttl soon'), { code: 2, err: /^--ttl takes a duration / })
  },
)

t.test(
  'send to many: one job; shows them and asks, without a terminal only with --yes',
  async (t) => {
    const jobs = async () => lines((await cli('jobs --json')).out).filter((line) => line !== '')
    const refused = await cli('send reboot STORE-*')
    t.match(refused, { code: 1, out: '', err: /^ALIAS +DEVICE ID\nSTORE-1 +\S+\nSTORE-2 / })
    t.match(
      refused.err,
      /\nNothing was done\. There is no terminal to ask on: repeat it with --yes\.\n$/,
    )
    for (const typed of ['n\n', '\n', 'yup\n', '']) {
      const { code, out, err } = await cli('send reboot STORE-*', { typed, width: 80 })
      t.same({ code, out }, { code: 1, out: '' }, JSON.stringify(typed))
      t.match(err, 'Send reboot to 3 phones (3 offline, 3 without live push)? [y/N] ')
      t.match(err, 'Nothing was done.')
    }
    const dry = await cli('send reboot STORE-* --dry-run --per-minute 60')
    t.match(dry, { code: 0, out: /^ALIAS .*\nSTORE-1 .*\nSTORE-2 .*\nSTORE-3 / })
    t.match(dry.err, /^Dry run: this would send reboot to 3 phones \(.*, 60 a minute\)\.\n$/)
    const preview = JSON.parse((await cli('send reboot STORE-* --dry-run --json')).out)
    t.match(preview, { devices: 3, unreachable: { offline: 3 } })
    t.match(await cli('send dance STORE-* --yes'), { code: 1, err: / 422 action_unknown: / })
    t.match(await cli('send reboot STORE-* --at 22:00 --yes'), {
      code: 2,
      err: /^--at takes a time /,
    })
    t.match(await cli('send reboot STORE-* --max-failed 0 --yes'), { code: 2 })
    t.same(await jobs(), [], 'nothing was sent so far')

    const sending = 'send reboot STORE-* --id night --per-minute 60 --max-failed 50% --note hush'
    const sent = await cli(sending, { typed: 'y\n', width: 200 })
    t.match(sent, { code: 0, out: /\nnight +running +0\/3 +0 +reboot +alias:STORE-\* / })
    t.match(sent.err, /\nFollow it: fleetloop job night --watch\n$/)
    t.match(JSON.parse((await jobs())[0] ?? ''), {
      ...{ job_id: 'night', devices: 3, per_minute: 60, max_failed_pct: 50, note: 'hush' },
    })
    const again = await cli(`${sending} --yes`)
    t.match(again, { code: 0, err: 'Job night is there already: nothing new was sent.\n' })
    t.match(await cli('send ring STORE-* --id night --yes'), {
      code: 1,
      err: / 409 request_id_conf/,
    })
    t.match(await cli('send ring STORE-* --id night --dry-run'), { code: 0, err: /^Dry run: / })
    const asked = await cli('send ring STORE-* --id ring-1 --yes')
    t.match(asked, {
      code: 1,
      err: 'ring-1 is a command to one phone already: give another --id.\n',
    })
    t.equal((await jobs()).length, 1, 'the same id again sends nothing')
    const later = JSON.parse((await cli('send ring D01 --at 2h --id later --json')).out)
    t.match(later, { job_id: 'later', state: 'scheduled', devices: 1 })
    t.ok(Date.parse(later.not_before) < Date.now() + 3 * 3_600_000, 'by the clock of the service')

    await until(async () => (await service.call('GET', '/admin/commands/night.1')).status === 200)
    t.match(await cli('cancel night.1'), { code: 0, out: 'night.1 cancelled\n' })
    t.match(await cli('cancel night.1 nothing'), { code: 1, out: '', err: /--yes/ })
    t.match(await cli('cancel night.1 nothing --yes'), {
      code: 1,
      err: / 404 command_unknown: /,
    })
  },
)

t.test('a selection that grew between the preview and the yes is refused', async (t) => {
  const grown = createServer(async (request, response) => {
    const body = await text(request)
    const { dry_run } = body === '' ? { dry_run: false } : JSON.parse(body)
    if (body !== '' && dry_run === undefined) await enroll('STORE-4')
    const { method, url = '', headers } = request
    const init = { method: method ?? '', headers: { ...headers } as Record<string, string> }
    const received = await fetch(service.origin + url, body === '' ? init : { ...init, body })
    response.writeHead(received.status).end(await received.text())
  })
  const FLEETLOOP_URL = `http://127.0.0.1:${await listenFor(t, grown)}`
  const sent = await cli('send reboot STORE-* --yes', { env: { ...env, FLEETLOOP_URL } })
  t.match(sent, { code: 1, out: '', err: / 409 selection_changed: / })
  await cli('delete STORE-4')
})

t.test('enroll: aliases, ranges, a CSV file of a spreadsheet', async (t) => {
  t.same(
    lines((await cli('enroll E08..E11 --as csv --uses 2 --expires 7d')).out).map(
      (line) => line.split(',')[0],
    ),
    ['alias', 'E08', 'E09', 'E10', 'E11'],
  )
  t.match((await cli('tokens E08')).out, /\nE08 +active +0\/2 +\d{4}-\d\d-\d\d \d\d:\d\d +tester /)
  const file = join(service.dataDir, 'phones.csv')
  const rows = Array.from({ length: 130 }, (_, n) => `C${n};"shelf ""A""; ${n % 2}"`)
  writeFileSync(file, `\ufeffAlias;Note\r\n${rows.join('\r\n')}\r\n\r\n`)
  const { out } = await cli('enroll --csv phones.csv')
  t.equal(lines(out).length, 131)
  t.equal(new Set(out.match(/et_\S+/g)).size, 130)
  writeFileSync(file, 'alias,site,ring\nL1,zrh,\nL2,gva,stable\n')
  t.equal((await cli('enroll --csv phones.csv --label ring=canary')).code, 0)
  const labelsOf = async (alias: string) =>
    JSON.parse((await cli(`tokens ${alias} --json`)).out).labels
  t.same(await labelsOf('L1'), { site: 'zrh', ring: 'canary' })
  t.same(await labelsOf('L2'), { site: 'gva', ring: 'stable' })
  t.match(await cli('enroll L3 --label zrh'), { code: 2, err: /^--label takes KEY=VALUE/ })
  t.match((await cli('tokens C7')).out, / shelf "A"; 1\n$/)
  for (const [text, err] of [
    [
      'name\nD1\n',
      'The first line of the CSV names its columns: alias, note if you like, and labels.',
    ],
    ['alias\nD1\nD1\n', 'D1 is there twice.'],
    ['alias\n../x\n', '"../x" is no alias'],
    ['alias,site,Site\nD1,a,b\n', 'The CSV has two columns site.'],
    [
      'alias,note,site\nD1,shelf 1, left,zrh\n',
      'A line of the CSV has more fields than columns: D1,',
    ],
    [`alias\nX\n${'X\n'.repeat(10_000)}`, 'At most 10000 aliases at once.'],
    [Buffer.from('alias,site\nD1,Z\xfcrich\n', 'latin1'), `${file} is not UTF-8.`],
  ] as const) {
    writeFileSync(file, text)
    const said = await cli('enroll --csv phones.csv')
    t.match(said, { code: 2, out: '' })
    t.ok(said.err.startsWith(err), said.err)
  }
  const narrow = await cli('enroll N1', { width: 30 })
  t.match(narrow.out, /\nN1 +et_\S{43}\n$/, 'a token is shown once: whole, however narrow')
  t.match(await cli('enroll --csv /nowhere'), { code: 2, err: /^\/nowhere cannot be read: / })
  t.match(await cli('enroll'), { code: 2, err: /^Give aliases / })
  t.match(await cli('enroll D1 --csv phones.csv'), { code: 2, err: /^Give aliases / })
  t.match(await cli('enroll D9..E11'), { code: 2, err: /^D9\.\.E11 is no range/ })
  t.match(await cli('enroll D9..D1'), { code: 2, err: /^D9\.\.D1 is no range/ })
  t.match(await cli('enroll Z1 --uses 0'), { code: 2, err: /^--uses takes a whole number/ })
  t.match(await cli('enroll Z1 --expires 900d'), { code: 1, err: / 422 invalid_field: / })

  t.match(await cli('revoke E08'), { code: 0, out: '', err: 'E08 revoked\n' })
  t.match(await cli('revoke E08 E1l E11'), {
    code: 1,
    err: 'E08 has no usable token.\nE1l has no usable token.\nE11 revoked\n',
  })
  t.match(await cli('revoke E09 E10'), { code: 1, err: /\nNothing was done\./ })
  t.match(await cli('revoke E09 E10 --yes'), { code: 0, err: 'E09 revoked\nE10 revoked\n' })
  t.match(await cli('tokens --status revoked'), { code: 0, out: /E10 +revoked/ })
})

t.test('delete: one at once, more after a yes', async (t) => {
  const dry = await cli('delete STORE-* --dry-run --json')
  t.same(
    lines(dry.out).map((line) => JSON.parse(line).alias),
    ['STORE-1', 'STORE-2', 'STORE-3'],
  )
  t.match(await cli('delete STORE-* --dry-run'), { code: 0, err: /this would delete 3 phones/ })
  t.match(await cli('delete STORE-*'), { code: 1, err: /repeat it with --yes/ })
  t.match(await cli('delete STORE-1'), { code: 0, err: 'STORE-1 deleted (1 of 1)\n' })
  t.match(await cli('delete STORE-1'), { code: 1, err: 'No phone matches.\n' })
  const both = await cli('delete STORE-*', { typed: 'y\n', width: 80 })
  t.match(both, { code: 0, err: /STORE-2 deleted \(1 of 2\)\nSTORE-3 deleted \(2 of 2\)\n$/ })
  t.match((await cli('devices --json')).out, /^\{[^\n]*"alias":"D01"[^\n]*\}\n$/)
})

t.test('erase asks even for one', async (t) => {
  const { device_id } = await enroll('GONE-1')
  t.match(await cli('erase GONE-1'), { code: 1, err: /repeat it with --yes/ })
  t.match(await cli('erase GONE-1', { typed: 'y\n', width: 80 }), { code: 0, err: /GONE-1 erased/ })
  t.match(await cli(`erase ${device_id} --yes`), { code: 0 }, 'again, by its id')
  t.match(await cli('erase GONE-1'), { code: 1, err: 'No phone has the name GONE-1.\n' })
})

t.test('publish, release, withdraw: what phones get', async (t) => {
  const apk = join(service.dataDir, 'app.apk')
  writeFileSync(apk, makeApk())
  const shown = await cli('publish app.apk', { width: 80 })
  t.match(shown, { code: 0, out: /^app published: .*version \d+.*, 4 KiB\n$/ })
  t.match(shown.err, /\[#{20}\] 100 % of /)
  t.match(await cli('publish app.apk'), { code: 0, err: '' }, 'again: published once')
  t.match(await cli('publish app.apk --id app-2 --staged --json'), {
    code: 0,
    out: /"state":"staged"/,
  })
  t.match((await cli('builds --type None')).err, 'No APK of the type None was published: fleetloop')
  t.match((await cli('builds')).out, / app-2 +\w+ +\d+ .* staged |\napp-2 .* staged /)
  t.match(await cli('release app-2'), { code: 0, out: /^app-2 released: / })
  t.match(await cli('withdraw app-2'), { code: 0, err: 'app-2 withdrawn\n' })
  t.match(await cli('withdraw app app-2'), { code: 1, err: /Nothing was done/ })
  t.match(await cli('publish app.apk --id app-2'), { code: 1, err: / 409 build_conflict: / })
  t.match(await cli(`publish app.apk --id x --signer ${'0'.repeat(64)}`), {
    code: 1,
    err: / 422 apk_mismatch: /,
  })
  writeFileSync(apk, 'no APK')
  t.match(await cli('publish app.apk --id app-9'), { code: 1, err: / 422 apk_invalid: / })
  t.match(await cli('publish nothing.apk'), { code: 2, err: /nothing\.apk cannot be read: ENOENT/ })
  t.match(await cli('publish .'), { code: 2, err: / is no file\.\n$/ })
  const other = createServer((request, response) => {
    request.resume()
    response.writeHead(200).end('<html>')
  })
  const FLEETLOOP_URL = `http://127.0.0.1:${await listenFor(t, other)}`
  t.match(await cli('publish app.apk', { env: { ...env, FLEETLOOP_URL } }), { code: 3 })
  const nobody = { ...env, FLEETLOOP_URL: 'http://127.0.0.1:1' }
  t.match(await cli('publish app.apk', { env: nobody }), { code: 3, err: /: ECONNREFUSED\. / })
})

t.test('the audit log has each change', async (t) => {
  const { out } = await cli('audit --limit 500')
  for (const what of [
    'command.create',
    'command.cancel',
    'device.delete',
    'enrollment_token.revoke',
  ])
    t.match(out, what)
  t.match(out, /apk\S*withdraw/)
  t.equal(readFileSync(join(service.dataDir, 'app.apk'), 'utf8'), 'no APK')
})
