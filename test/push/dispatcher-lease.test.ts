/** Who sends a command, and when nobody may: leases, two replicas and the end of one. */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { commandOutbox } from '../../src/db/commands/outbox.ts'
import type { Claim } from '../../src/domain/delivery/outbox.ts'
import type { DispatcherDeps } from '../../src/push/dispatcher.ts'
import { until } from '../../testkit/until.ts'
import { databaseOf } from '../helpers/database.ts'
import { DEADLINE_MS, startReplicas } from '../helpers/replicas.ts'

const {
  fcm,
  service,
  db,
  outbox,
  clientOf,
  replica,
  enroll,
  command,
  row,
  tokenDied,
  attemptsOf,
  isPush,
} = await startReplicas(t)

t.test('two replicas never send the same claim twice', async (t) => {
  const { deviceId } = await enroll()
  const ids: string[] = []
  while (ids.length < 60) ids.push(await command(deviceId))
  const both = [replica(t, { maxInFlight: 7 }), replica(t, { maxInFlight: 7 })]
  for (const { dispatcher } of both) dispatcher.start()
  for (const id of ids) await until(isPush(id, 'sent'))
  for (const id of ids) t.same(attemptsOf(id), ['1'])
  t.equal(both[0]?.dispatcher.inFlight, 0)
})

t.test('an abandoned lease runs out, and the command is sent with a higher attempt', async (t) => {
  const id = await command((await enroll()).deviceId)
  const [claim] = await outbox.claim(1, randomUUID())
  t.match(claim, { requestId: id, attempt: 1 })
  t.match(await row(id), { push_state: 'sending', is_due: false })
  const { dispatcher } = replica(t)
  dispatcher.start()
  await db.query('update commands set next_attempt_at = now() where request_id = $1', [id])
  await until(isPush(id, 'sent'))
  t.same(attemptsOf(id), ['2'])

  const late = {
    fcmHttpCode: 400,
    fcmStatus: 'INVALID_ARGUMENT',
    latencyMs: 1,
    retryInMs: null,
    reason: null,
    pushKind: 'token' as const,
  }
  if (claim === undefined) throw new Error('nothing was claimed')
  t.equal(await outbox.record(claim, { ...late, pushState: 'gave_up' }), false)
  await outbox.recordDeadToken(claim, { ...late, pushState: 'gave_up' })
  t.match(await row(id), { push_state: 'sent', fcm_status: 'OK' }, 'the first holder is too late')
})

t.test('a replica that stops leaves the lease of another alone', async (t) => {
  const id = await command((await enroll()).deviceId)
  const stopping = await outbox.claim(1, randomUUID())
  await db.query('update commands set next_attempt_at = now() where request_id = $1', [id])
  const leaseId = randomUUID()
  t.match(await outbox.claim(1, leaseId), [{ requestId: id, attempt: 2 }])
  await outbox.handBack(stopping)
  t.match(await row(id), { push_state: 'sending', lease_id: leaseId, is_due: false })
  await service.call('DELETE', `/admin/commands/${id}`)
})

t.test('a command that ended while it was sent is not given back', async (t) => {
  const id = await command((await enroll()).deviceId)
  const claims = await outbox.claim(1, randomUUID())
  t.match(claims, [{ requestId: id }])
  await service.call('DELETE', `/admin/commands/${id}`)
  await outbox.handBack(claims)
  t.match(await row(id), { state: 'cancelled', push_state: 'sending', next_attempt_at: null })
})

t.test('a command whose time is over is not claimed before the sweep either', async (t) => {
  const id = await command((await enroll()).deviceId)
  await db.query('begin') // so that no sweep sees it
  const expire = 'update commands set expires_at = now() where request_id = $1 returning state'
  t.same((await db.query(expire, [id])).rows, [{ state: 'open' }])
  const { claim } = commandOutbox(databaseOf(db), 'replica')
  t.same(await claim(1, randomUUID()), [])
  await db.query('rollback')
  const again = commandOutbox(databaseOf(db), 'replica')
  t.match(await again.claim(1, randomUUID()), [{ requestId: id }])
  await service.call('DELETE', `/admin/commands/${id}`)
})

t.test('a command that went to a push token since replaced is due for the new one', async (t) => {
  const outcomes = [
    { pushState: 'sent', fcmHttpCode: 200, fcmStatus: 'OK' },
    { pushState: 'gave_up', fcmHttpCode: 404, fcmStatus: 'UNREGISTERED' },
  ] as const
  for (const outcome of outcomes) {
    const { deviceId, token } = await enroll()
    const id = await command(deviceId)
    const [claim] = await outbox.claim(1, randomUUID())
    if (claim === undefined) throw new Error('nothing was claimed')
    const body = { fcm_token: `new-${id}` }
    await service.call('POST', '/v1/devices/fcm-token', { token, body })
    t.match(await row(id), { push_state: 'sending', is_due: false }, 'the lease holds')
    const attempt = {
      ...outcome,
      latencyMs: 1,
      retryInMs: null,
      reason: null,
      pushKind: 'token' as const,
    }
    if (outcome.pushState === 'sent') t.equal(await outbox.record(claim, attempt), true)
    else t.same(await outbox.recordDeadToken(claim, attempt), { isMarked: false })
    t.match(await row(id), { push_state: 'waiting', is_due: true, lease_id: null })
    const text = 'select fcm_token, fcm_token_died_at from devices where device_id = $1'
    const { rows } = await db.query(text, [deviceId])
    t.same(rows, [{ ...body, fcm_token_died_at: null }])
    await service.call('DELETE', `/admin/commands/${id}`)
  }
})

t.test('where push tokens change too often, it is due when their limit allows', async (t) => {
  const { deviceId, token } = await enroll()
  const [pushed, failed, without] = [
    await command(deviceId),
    await command(deviceId),
    await command(deviceId),
  ]
  const [claim, retried] = [
    ...(await outbox.claim(1, randomUUID())),
    ...(await outbox.claim(1, randomUUID())),
  ]
  await tokenDied(deviceId)
  const [unsent] = await outbox.claim(1, randomUUID())
  if (!claim || !retried || !unsent) throw new Error('nothing was claimed')
  t.match(
    [claim, retried, unsent],
    [{ requestId: pushed }, { requestId: failed }, { requestId: without, pushId: null }],
  )
  for (let change = 1; change <= 11; change += 1) {
    const body = { fcm_token: `often-${change}` }
    await service.call('POST', '/v1/devices/fcm-token', { token, body })
  }
  const outcome = { pushState: 'sent', fcmHttpCode: 200, fcmStatus: 'OK' } as const
  await outbox.record(claim, {
    ...outcome,
    latencyMs: 1,
    retryInMs: null,
    reason: null,
    pushKind: 'token' as const,
  })
  const quota = { pushState: 'backoff', fcmHttpCode: 429, fcmStatus: 'QUOTA_EXCEEDED' } as const
  await outbox.record(retried, {
    ...quota,
    latencyMs: 1,
    retryInMs: 60_000,
    reason: null,
    pushKind: 'token' as const,
  })
  t.equal(await outbox.recordNoToken(unsent), 'due')
  const text = 'select fcm_token_due_at from devices where device_id = $1'
  const [device] = (await db.query(text, [deviceId])).rows
  for (const id of [pushed, without]) {
    const due = { is_due: false, next_attempt_at: device.fcm_token_due_at }
    t.match(await row(id), { push_state: 'waiting', ...due })
    await service.call('DELETE', `/admin/commands/${id}`)
  }
  const { push_state, next_attempt_at } = await row(failed)
  t.equal(push_state, 'backoff', 'what is tried again sooner by itself stays so')
  t.ok(next_attempt_at < device.fcm_token_due_at)
  await service.call('DELETE', `/admin/commands/${failed}`)
})

t.test('of a command’s pushes a hundred stay, and the newest says how many do not', async (t) => {
  const { deviceId } = await enroll()
  const id = await command(deviceId)
  const failed = { pushState: 'backoff', fcmHttpCode: 429, fcmStatus: 'QUOTA_EXCEEDED' } as const
  const attempt = {
    ...failed,
    latencyMs: 1,
    retryInMs: 0,
    reason: null,
    pushKind: 'token' as const,
  }
  const push = async (times: number, record: (claim: Claim) => Promise<unknown>) => {
    for (let count = 0; count < times; count += 1) {
      const [claim] = await outbox.claim(1, randomUUID())
      if (claim?.requestId !== id) throw new Error('something else is due')
      await record(claim)
    }
  }
  const fails = (claim: Claim) => outbox.record(claim, attempt)
  type Step = { readonly stage: string; readonly detail: Readonly<Record<string, unknown>> | null }
  const steps = async (): Promise<unknown[]> =>
    (await service.call('GET', `/admin/commands/${id}`)).body.timeline.map(
      ({ stage, detail }: Step) => [stage, detail?.['attempt'], detail?.['left_out']],
    )
  const first = [
    ['accepted', undefined, undefined],
    ...Array.from({ length: 99 }, (_, nth) => ['push_failed', nth + 1, undefined]),
  ]
  await push(100, fails)
  t.same(await steps(), [...first, ['push_failed', 100, undefined]], 'none too many')
  await push(20, fails)
  t.same(await steps(), [...first, ['push_failed', 120, 20]])
  await tokenDied(deviceId)
  await push(1, (claim) => outbox.recordNoToken(claim))
  t.same(await steps(), [...first, ['no_push_token', undefined, 21]])
  const text = 'select count(*)::int as n from command_events where request_id = $1'
  t.same((await db.query(text, [id])).rows, [{ n: 101 }])

  await db.query(
    `insert into command_events (request_id, stage, detail, instance)
     select $1, 'push_sent', jsonb_build_object('attempt', n), 'before' from generate_series(121, 150) n`,
    [id],
  )
  t.same(
    await steps(),
    [...first, ['push_sent', 150, 51]],
    'also beside a release without the limit',
  )
  await service.call('DELETE', `/admin/commands/${id}`)
  t.match((await steps()).at(-1), ['cancelled'])
})

t.test('a replica that stops gives back what it could not finish', async (t) => {
  fcm.setMode({ fcm: 'hang' })
  t.teardown(() => fcm.setMode({ fcm: 'ok' }))
  const id = await command((await enroll()).deviceId)
  const first = replica(t, { fcm: clientOf(5_000) })
  first.dispatcher.start()
  await fcm.waitForSend(({ data }) => data['request_id'] === id)
  await first.dispatcher.close(1)
  t.match(await row(id), { push_state: 'waiting', lease_id: null, is_due: true })

  fcm.setMode({ fcm: 'ok' })
  replica(t).dispatcher.start()
  await until(isPush(id, 'sent'))
  await until(() => first.dispatcher.inFlight === 0)
  t.same(attemptsOf(id), ['1', '2'])
  t.match(await row(id), { push_state: 'sent' }, 'what the first one records now counts no more')
})

t.test('a replica that stops while it claims sends nothing of it', async (t) => {
  const id = await command((await enroll()).deviceId)
  let claimed = () => {}
  const isClaimed = new Promise<void>((resolve) => {
    claimed = resolve
  })
  let response = () => {}
  const mayAnswer = new Promise<void>((resolve) => {
    response = resolve
  })
  const slow: DispatcherDeps['outbox'] = {
    ...outbox,
    async claim(limit, leaseId) {
      const claims = await outbox.claim(limit, leaseId)
      claimed()
      await mayAnswer
      return claims
    },
  }
  const { dispatcher } = replica(t, { outbox: slow })
  dispatcher.start()
  await isClaimed
  const closed = dispatcher.close(DEADLINE_MS)
  response()
  await closed
  t.match(await row(id), { push_state: 'waiting', lease_id: null, is_due: true })
  t.same(attemptsOf(id), [])
  replica(t).dispatcher.start()
  await until(isPush(id, 'sent'))
})

t.test('a command whose secret is another replica’s waits, and its story says why', async (t) => {
  const { deviceId } = await enroll()
  const id = await command(deviceId)
  const { dispatcher, lines } = replica(t, { commandKey: () => undefined, retryBaseMs: 60_000 })
  dispatcher.wake()
  await until(isPush(id, 'backoff'))
  t.match(lines, [{ event: 'dispatch.fail', level: 'WARN', fields: { final: false } }])
  const attempt = { fcm_http_code: null, fcm_status: 'FAILED_PRECONDITION' }
  t.match(lines[0]?.fields, { ...attempt, dispatch_latency_ms: null })
  t.match(await row(id), attempt)
  const { body } = await service.call('GET', `/admin/commands/${id}`)
  t.match(body.timeline.at(-1), {
    stage: 'push_failed',
    code: 'FAILED_PRECONDITION',
    detail: { reason: 'HMAC secret default is not configured', retry_at: String },
  })
  await service.call('DELETE', `/admin/commands/${id}`)
})
