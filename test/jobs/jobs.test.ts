/** Jobs through the API: what admins send, read and control, and what phones see of it. */
import t from 'tap'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, startService } from '../helpers/service.ts'

const service = await startService(t)
const replica = await startService(t, { databaseUrl: service.databaseUrl })
const db = await connect(t, service.databaseUrl)
const phones: Enrolled[] = []
for (const alias of ['J1', 'J2', 'J3', 'J4', 'J5']) phones.push(await service.enroll(alias))

const send = (body: object, headers: Readonly<Record<string, string>> = {}) =>
  service.call('POST', '/admin/jobs', { body, headers })
const read = (jobId: string, query = '') => service.call('GET', `/admin/jobs/${jobId}${query}`)
const control = (jobId: string, what: string, body?: object) =>
  service.call('POST', `/admin/jobs/${jobId}/${what}`, body === undefined ? {} : { body })
const members = (jobId: string, query = '') =>
  service.call('GET', `/admin/jobs/${jobId}/commands${query}`)

async function beat(phone: Enrolled | undefined): Promise<readonly { request_id: string }[]> {
  const response = await service.call('POST', '/v1/heartbeat', {
    token: phone?.token ?? null,
    body: {},
  })
  return response.body.commands
}

const report = (phone: Enrolled | undefined, requestId: string, outcome = 'success') =>
  service.call('POST', '/v1/action-result', {
    token: phone?.token ?? null,
    body: { request_id: requestId, outcome, message: outcome },
  })

const released = (jobId: string, count: number) =>
  until(async () => (await read(jobId)).body.released === count, `${count} of ${jobId} released`)

const later = (seconds = 3_600) => new Date(Date.now() + seconds * 1_000).toISOString()

t.test(
  'a job is released, runs on its phones and is done; members are ordinary commands',
  async (t) => {
    const body = { job_id: 'reboot', where: 'alias:J1,J2', action: 'ring', params: { tone: 'a' } }
    const response = await send({ ...body, ttl_s: 60, note: 'ticket 4711' })
    t.match(response, {
      status: 202,
      body: {
        job_id: 'reboot',
        state: 'running',
        devices: 2,
        counts: { waiting: 2 },
        duplicate: false,
        note: 'ticket 4711',
        ttl_s: 60,
        verdict: { code: 'releasing' },
      },
    })
    await released('reboot', 2)
    const [first] = await beat(phones[0])
    t.match(first, { request_id: 'reboot.1', action: 'ring', tone: 'a' })
    const command = await service.call('GET', '/admin/commands/reboot.1')
    t.match(command.body, {
      alias: 'J1',
      status: 'delivered',
      timeline: [{ stage: 'accepted', detail: { admin: 'tester', job_id: 'reboot' } }, {}],
    })
    t.match(await read('reboot'), {
      body: { counts: { delivered: 1, queued: 1 }, verdict: { code: 'waiting_for_devices' } },
    })
    t.match(await report(phones[1], 'reboot.1'), { status: 404 }, 'another phone’s')
    await report(phones[0], 'reboot.1')
    await report(phones[1], 'reboot.2', 'failure')
    const done = await read('reboot', '?wait_ms=30000')
    t.match(done.body, {
      state: 'done',
      counts: { completed: 1, failed: 1, waiting: 0 },
      verdict: { code: 'done_with_failures', detail: /"failure" \(1\)/ },
      eta_s: null,
    })
    t.match((await report(phones[0], 'reboot.1')).body, { duplicate: true })
    for (const what of ['pause', 'resume', 'abort']) {
      t.match(await control('reboot', what), { status: 409, body: { code: 'job_ended' } })
    }
  },
)

t.test('a repeat sends nothing; anything else with the same id is refused', async (t) => {
  const body = { job_id: 'again', where: 'alias:J1', action: 'ping', not_before: later() }
  t.match(await send(body), { status: 202, body: { state: 'scheduled' } })
  const late = { ...body, not_before: later(-86_400), expect_devices: 7 }
  t.match(await send(late), { status: 200, body: { duplicate: true } }, 'however late it comes')
  const header = { where: 'alias:J1', action: 'ping' }
  t.match(await send(header, { 'idempotency-key': 'again' }), { status: 200 })
  for (const other of [{ where: 'alias:J2' }, { action: 'ring' }, { params: { a: 'b' } }]) {
    const refused = await send({ ...body, ...other })
    t.match(refused, { status: 409, body: { code: 'request_id_conflict', detail: /again/ } })
  }
  const { rows } = await db.query('select count(*)::int as n from jobs')
  t.equal(rows[0].n, 2)
  t.match(await control('again', 'abort'), {
    body: { state: 'aborted', counts: { cancelled: 1 }, verdict: { code: 'aborted' } },
  })
  t.match(await control('again', 'abort'), { status: 200 }, 'a repeat')
})

t.test('a dry run finds what the job would, stores nothing, and protects it', async (t) => {
  const body = { job_id: 'dry', where: 'alias:J*', action: 'ping' }
  const dry = await send({ ...body, not_before: later(-240), dry_run: true })
  t.match(dry, { status: 200, body: { devices: 5, unreachable: { no_push: 5 } } })
  t.same(
    dry.body.sample.map(({ alias }: { alias: string }) => alias),
    ['J1', 'J2', 'J3', 'J4', 'J5'],
  )
  const changed = { status: 409, body: { code: 'selection_changed', detail: /5 devices, not 4/ } }
  t.match(await send({ ...body, expect_devices: 4, dry_run: true }), changed)
  t.match(await send({ ...body, expect_devices: 4 }), changed)
  const empty = { status: 422, body: { code: 'selection_empty', errors: [{ field: 'where' }] } }
  t.match(await send({ ...body, where: 'alias:K*' }), empty)
  t.match(await send({ ...body, where: 'alias:K*', dry_run: true }), empty)
  t.match(await read('dry'), { status: 404, body: { code: 'job_unknown' } })
  const wrong: readonly (readonly [string, object])[] = [
    ['where', { where: undefined }],
    ['where', { where: 'aleas:J1' }],
    ['action', { action: 'dance' }],
    ['per_minute', { per_minute: 0 }],
    ['max_failed_pct', { max_failed_pct: 101 }],
    ['min_results', { min_results: 0 }],
    ['not_before', { not_before: 'tomorrow' }],
    ['not_before', { not_before: later(-301), dry_run: true }],
    ['not_before', { not_before: later(-301) }],
    ['not_before', { not_before: later(40 * 86_400) }],
    ['job_id', { job_id: 'x'.repeat(121) }],
    ['dry_run', { dry_run: 'yes' }],
    ['ttl_s', { ttl_s: 1 }],
  ]
  for (const [field, part] of wrong) {
    const refused = await send({ ...body, ...part })
    t.match(refused, { status: 422, body: { errors: [{ field }] } }, JSON.stringify(part))
  }
})

t.test('a member that waits is invisible to its phone, and its id is taken', async (t) => {
  const body = { job_id: 'wait', where: 'alias:J3,J4', action: 'ping', not_before: later() }
  t.match(await send(body), {
    body: { state: 'scheduled', counts: { waiting: 2 }, verdict: { code: 'scheduled' } },
  })
  t.same(await beat(phones[2]), [])
  t.match(await report(phones[2], 'wait.1'), { status: 404, body: { code: 'command_unknown' } })
  const command = { alias: 'J3', action: 'ping', request_id: 'wait.1' }
  const taken = { status: 409, body: { code: 'request_id_conflict' } }
  t.match(await service.call('POST', '/admin/command', { body: command }), taken)
  const other = { ...command, request_id: 'free.2' }
  t.match(await service.call('POST', '/admin/command', { body: other }), { status: 202 })
  t.match(await send({ ...body, job_id: 'free' }), { ...taken, body: { detail: /free\.1/ } })
  t.match((await members('wait')).body.commands, [
    { request_id: 'wait.1', alias: 'J3', status: 'waiting' },
    { request_id: 'wait.2', alias: 'J4', status: 'waiting' },
  ])
  t.match(await control('wait', 'pause'), {
    body: { state: 'paused', verdict: { code: 'paused_by_admin', detail: /tester/ } },
  })
  t.match(await control('wait', 'resume'), { body: { state: 'scheduled' } })
  t.match(await control('wait', 'abort', { cancel_open: false }), { body: { state: 'aborted' } })
  t.match((await members('wait', '?status=cancelled')).body.commands, [{}, {}])
})

t.test('members are listed by status and outcome, in pages; jobs by state', async (t) => {
  await send({ job_id: 'list', where: 'alias:J*', action: 'ping' })
  await released('list', 5)
  await report(phones[1], 'list.2')
  await report(phones[3], 'list.4', 'rejected')
  const idsOf = (body: { commands: readonly { request_id: string }[] }) =>
    body.commands.map(({ request_id: id }) => id)
  t.same(idsOf((await members('list', '?status=completed')).body), ['list.2'])
  t.same(idsOf((await members('list', '?status=failed')).body), ['list.4'])
  t.same(idsOf((await members('list', '?outcome=rejected')).body), ['list.4'])
  t.same(idsOf((await members('list', '?status=queued')).body), ['list.1', 'list.3', 'list.5'])
  const pages: string[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page = await members('list', `?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)
    pages.push(idsOf(page.body).join(' '))
    cursor = page.body.next_cursor
  }
  t.same(pages, ['list.1 list.2', 'list.3 list.4', 'list.5'])
  const running = await service.call('GET', '/admin/jobs?state=running')
  t.match(running.body, { jobs: [{ job_id: 'list', counts: { queued: 3 } }], next_cursor: null })
  t.equal(running.body.jobs.length, 1)
  const all = await service.call('GET', '/admin/jobs?limit=1')
  t.match(all.body.jobs, [{ job_id: 'list' }])
  t.match(await service.call('GET', `/admin/jobs?limit=1&cursor=${all.body.next_cursor}`), {
    body: { jobs: [{ job_id: 'wait' }] },
  })

  await control('list', 'abort')
  await until(async () => (await read('list')).body.counts.cancelled === 3, 'all are cancelled')
  t.same(idsOf((await members('list', '?status=cancelled')).body), ['list.1', 'list.3', 'list.5'])
  t.match(await service.call('GET', '/admin/commands/list.1'), {
    body: { status: 'cancelled', timeline: [{}, { stage: 'cancelled', code: 'job_aborted' }] },
  })
  t.match(await service.call('GET', '/admin/jobs/nothing/commands'), { status: 404 })
})

t.test('each change of a job is in the log once, under its id, from either replica', async (t) => {
  const job = { job_id: 'said', where: 'alias:J1,J2', action: 'ping', max_failed_pct: 50 }
  await send({ ...job, min_results: 1, per_minute: 1 })
  await released('said', 1)
  await report(phones[0], 'said.1', 'failure')
  await until(async () => (await read('said')).body.state === 'paused', 'the job is paused')
  t.match((await read('said')).body, {
    reason: 'threshold',
    verdict: { code: 'paused_by_threshold', detail: /^At least 50 % had failed; by now 1 of 1/ },
  })
  await control('said', 'resume')
  await control('said', 'pause')
  await db.query(`update jobs set allowance = 1 where job_id = 'said'`)
  await control('said', 'resume')
  await released('said', 2)
  await report(phones[1], 'said.2')
  await read('said', '?wait_ms=30000')
  const linesOf = () =>
    [service, replica].flatMap(({ lines }) =>
      lines.all.filter((line) => line['request_id'] === 'said' && /^job\./.test(line.event)),
    )
  await until(() => linesOf().some(({ event }) => event === 'job.done'), 'job.done')
  const shown = linesOf().map(({ event, level, reason, admin }) => [event, level, reason, admin])
  const expected = [
    ['job.create', 'INFO', null, 'tester'],
    ['job.pause', 'WARN', 'threshold', null],
    ['job.resume', 'INFO', null, 'tester'],
    ['job.pause', 'INFO', 'admin', 'tester'],
    ['job.resume', 'INFO', null, 'tester'],
    ['job.done', 'INFO', null, null],
  ]
  t.same(shown.map(String).sort(), expected.map(String).sort())
  t.match(
    linesOf().find(({ event }) => event === 'job.done'),
    {
      action: 'ping',
      devices: 2,
      completed: 1,
      failed: 1,
      expired: 0,
      cancelled: 0,
    },
  )
  const audit = await service.call('GET', '/admin/audit?subject=said')
  const whats = audit.body.audit.map(({ what }: { what: string }) => what).reverse()
  t.same(
    whats,
    expected.map(([event]) => event),
  )
})

t.test('an erased phone is in no selection of a job, and its failure in no verdict', async (t) => {
  const [phone, other] = [await service.enroll('J-gone'), await service.enroll('J-gone-2')]
  const where = 'alias:J-gone,J-gone-2'
  await send({ job_id: 'erased', where, action: 'ping' })
  await released('erased', 2)
  await report(phone, 'erased.1', 'failure')
  await report(other, 'erased.2')
  t.match((await read('erased', '?wait_ms=30000')).body.verdict, { detail: /"failure" \(1\)/ })
  await service.call('DELETE', `/admin/devices/${phone.deviceId}?erase=true`)
  const { body } = await read('erased')
  t.match(body, { where: `alias:${phone.deviceId},J-gone-2`, counts: { failed: 1 } })
  t.notMatch(body.verdict.detail, /"failure"/)
  const entries = await service.call('GET', '/admin/audit?subject=erased')
  t.notMatch(entries.body.audit.at(-1).detail.where, /J-gone,/)
})

t.test('a job sent twice at once is one job; racing controls leave a legal history', async (t) => {
  const both = <Sent>(count: number, one: (from: typeof service, nth: number) => Promise<Sent>) =>
    Promise.all(Array.from({ length: count }, (_, nth) => one(nth % 2 ? service : replica, nth)))
  const responses = await both(6, (from, nth) => {
    const where = nth < 4 ? 'alias:J1' : 'alias:J2'
    const body = { job_id: 'race', where, action: 'ping', not_before: later() }
    return from.call('POST', '/admin/jobs', { body })
  })
  const created = responses.findIndex(({ status }) => status === 202)
  t.same(
    responses.map(({ status }) => status),
    responses.map((_, nth) => (nth === created ? 202 : nth < 4 === created < 4 ? 200 : 409)),
  )

  const WHATS = ['pause', 'resume', 'pause', 'resume', 'pause', 'abort', 'resume', 'pause']
  const changes = await both(24, (from, nth) =>
    from.call('POST', `/admin/jobs/race/${WHATS[nth % WHATS.length]}`),
  )
  t.ok(changes.every(({ status }) => status === 200 || status === 409))
  // `at` is when a transaction began, before it waited for the job.
  const inOrder = `select what from audit_log where subject = 'race' order by audit_id`
  const history: readonly string[] = (await db.query(inOrder)).rows.map(({ what }) => what)
  t.match(history.join(' '), /^job.create( job.pause job.resume)*( job.pause)? job.abort$/)
  const logged = () =>
    [service, replica].flatMap(({ lines }) =>
      lines.all.filter(({ event, request_id: id }) => id === 'race' && event.startsWith('job.')),
    )
  await until(() => logged().length >= history.length) // a line may come after its answer
  const events = logged().map(({ event }) => event)
  t.same(events.sort(), [...history].sort(), 'each is logged once')
})
