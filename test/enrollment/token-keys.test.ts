/** A batch of enrollment tokens that is asked for again by its key. */
import t from 'tap'
import { ADMIN } from '../helpers/service.ts'
import {
  db,
  FOURTH,
  type Issued,
  LIMIT,
  OTHER_ADMIN,
  PATH,
  register,
  service,
  story,
} from './issuing.ts'

/** One batch of the fourth admin, with a key. */
function issueByKey(key: string, body: object, requestId?: string, token = FOURTH) {
  const headers = { 'idempotency-key': key, ...(requestId && { 'x-request-id': requestId }) }
  return service.call('POST', PATH, { token, body, headers })
}
const countOf = async (table: string) =>
  (await db.query(`select count(*)::int as n from ${table}`)).rows[0].n

t.test('a lost answer is given again by its key, and nothing is made twice', async (t) => {
  const body = { aliases: ['k-1', null, 'k-2'], note: 'keyed' }
  const [first, ...others] = (
    await Promise.all(Array.from({ length: 5 }, () => issueByKey('batch-1', body)))
  ).toSorted((a, b) => b.status - a.status)
  t.match(first, { status: 201, body: { duplicate: false, tokens: [{ alias: 'k-1' }, {}, {}] } })
  for (const { status, body } of others) {
    t.same(
      [status, body],
      [200, { ...first?.body, duplicate: true }],
      'five at once make one batch',
    )
  }
  const before = await countOf('enrollment_tokens')
  const spelt = { ...body, expires_in_sec: 2_700, uses_allowed: 1 }
  const again = await issueByKey('batch-1', spelt, 'key-again')
  t.same([again.status, again.body], [200, { ...first?.body, duplicate: true }])
  for (const other of [
    { ...body, aliases: ['k-1', 'k-2', null] },
    { ...body, aliases: ['k-1', null] },
    { ...body, uses_allowed: 2 },
    { ...body, expires_in_sec: 2_701 },
    { ...body, note: 'other' },
    { aliases: body.aliases },
  ]) {
    const refused = await issueByKey('batch-1', other)
    t.match(refused, { status: 409, body: { code: 'request_id_conflict' } })
  }
  t.equal(await countOf('enrollment_tokens'), before, 'nothing was made')

  const { token, token_id: tokenId } = again.body.tokens[0]
  t.match(await register(token, 'key-used'), { status: 201, body: { alias: 'k-1' } })
  t.match((await issueByKey('batch-1', body)).body, { ...first?.body, duplicate: true })
  const lines = (await story('key-again')).filter(({ event }) => event === 'sec.token.create')
  t.match(
    lines.map((line) => [line['reason'], line['token_id'], line['admin']]),
    again.body.tokens.map(({ token_id }: Issued) => ['repeat', token_id.slice(-4), 'fourth']),
  )
  const { rows } = await db.query(
    `select what, admin, request_id, detail from audit_log where subject = $1
      and request_id = 'key-again'`,
    [tokenId],
  )
  t.same(rows, [
    {
      what: 'enrollment_token.repeat',
      admin: 'fourth',
      request_id: 'key-again',
      detail: { alias: 'k-1' },
    },
  ])
})

t.test('a key is of one admin, and of one form', async (t) => {
  const body = { aliases: [null] }
  const mine = await issueByKey('shared', body)
  const theirs = await issueByKey('shared', body, 'key-theirs', ADMIN)
  t.same([mine.status, theirs.status], [201, 201])
  t.not(mine.body.tokens[0].token, theirs.body.tokens[0].token)
  for (const key of ['', 'a b', 'x'.repeat(129), '"quoted"', 'é']) {
    const refused = await issueByKey(key, body)
    t.match(refused, { status: 422, body: { errors: [{ field: 'idempotency-key' }] } }, key)
  }
  const keyless = await service.call('POST', PATH, { token: FOURTH, body })
  t.match(keyless, { status: 201, body: { duplicate: false } })
})

t.test('a repeat needs no room, and what was refused for want of it has no key', async (t) => {
  const body = { aliases: ['room-1'] }
  const first = await issueByKey('room', body)
  const age = "update enrollment_tokens set issued_at = now() where issued_by = 'fourth'"
  await db.query(age)
  const rest =
    LIMIT - (await db.query("select from enrollment_tokens where issued_by = 'fourth'")).rows.length
  t.equal((await issueByKey('fill', { aliases: Array(rest).fill(null) })).status, 201)
  t.equal((await issueByKey('refused', body)).status, 429)
  t.match(await issueByKey('room', body), { status: 200, body: { tokens: first.body.tokens } })
  await db.query(
    "update enrollment_tokens set issued_at = issued_at - interval '1 hour' where issued_by = 'fourth'",
  )
  t.equal((await issueByKey('refused', body)).status, 201)
})

t.test('a day later the key is as good as new, and its tokens can be made by nobody', async (t) => {
  const body = { aliases: ['aged-1'] }
  const first = await issueByKey('aged', body)
  const age = (time: string) =>
    db.query(
      `update enrollment_batches set created_at = now() - $1::interval
        where idempotency_key = 'aged'`,
      [time],
    )
  await age('23 hours 59 minutes')
  t.equal((await issueByKey('aged', body)).status, 200)
  await age('24 hours 1 second')
  const second = await issueByKey('aged', { aliases: ['aged-2'] })
  t.match(second, { status: 201, body: { duplicate: false } })
  t.not(second.body.tokens[0].token, first.body.tokens[0].token)
  t.match(await issueByKey('aged', body), { status: 409 }, 'the key is of the second one now')

  await db.query(`update enrollment_batches set seed = sha256(seed) where idempotency_key = 'aged'`)
  const gone = await issueByKey('aged', { aliases: ['aged-2'] })
  t.match(gone, { status: 409, body: { detail: /an HMAC_SECRET that is gone/ } })
})

t.test('no secret is ever told again: in lists, lines or the database', async (t) => {
  const [issued] = (await issueByKey('secret', { aliases: ['secret-1'] }, 'secret-key')).body.tokens
  const { body } = await register(issued?.token, 'secret', { fcm_token: 'fcm-secret-1' })
  await service.call('POST', '/v1/heartbeat', { token: body.device_token, body: {} })
  await register(body.device_token, 'secret-wrong')
  const secrets = [issued?.token, body.device_token, body.hmac_key, ADMIN, OTHER_ADMIN] as string[]
  const told = []
  for (const path of [PATH, '/admin/devices', `/admin/devices/${body.device_id}`, '/admin/audit']) {
    told.push((await service.call('GET', path)).text)
  }
  const { rows: tables } = await db.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'public'",
  )
  for (const { name } of tables) {
    const { rows } = await db.query<{ row: string }>(`select t::text as row from ${name} t`)
    const kept = rows.map(({ row }) => row).join('\n')
    for (const secret of secrets) t.notOk(kept.includes(secret), `${name} keeps no secret`)
  }
  await service.lines.terminalOf('secret-wrong')
  told.push(service.lines.raw.join('\n'), service.stderr())
  const { rows } = await db.query<{ hash: string }>(`
    select encode(token_hash, 'hex') as hash from enrollment_tokens
    union all select encode(token_hash, 'hex') from device_tokens`)
  const hidden = [...secrets, 'fcm-secret-1', ...rows.map(({ hash }) => hash)]
  for (const secret of hidden) t.notOk(told.join('\n').includes(secret))
})
