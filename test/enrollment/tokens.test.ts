/** Enrollment tokens: issued, listed and revoked by admins, refused with a reason, and never told twice. */
import t from 'tap'
import type { LogLine } from '../../testkit/log-book.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { COMMON_KEYS } from '../helpers/lines.ts'
import { ADMIN, startService } from '../helpers/service.ts'

const PATH = '/v1/enroll-tokens'
const OTHER_ADMIN = 'other-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const FOURTH = `${OTHER_ADMIN}-4`
const LIMIT = 60

const service = await startService(t, {
  env: {
    ADMIN_TOKENS: `tester=${ADMIN},other=${OTHER_ADMIN},third=${OTHER_ADMIN}-3,fourth=${FOURTH}`,
    RATE_LIMIT_TOKENS_PER_HOUR: String(LIMIT),
  },
})
const db = await connect(t, service.databaseUrl)

interface Issued {
  readonly token_id: string
  readonly alias: string | null
  readonly token: string
}

async function issue(aliases: readonly (string | null)[], options = {}): Promise<Issued[]> {
  const made = await service.call('POST', PATH, { body: { aliases, ...options } })
  return made.body.tokens
}

function register(token: string | undefined, requestId: string, body: unknown = {}) {
  const headers = { 'x-request-id': requestId }
  return service.call('POST', '/v1/register', { token: token ?? '', body, headers })
}

/** All lines of one request, its terminal line last. */
async function story(requestId: string): Promise<readonly LogLine[]> {
  await service.lines.terminalOf(requestId)
  return service.lines.all.filter((line) => line['request_id'] === requestId)
}

function expire(tokenId: string | undefined) {
  return db.query('update enrollment_tokens set expires_at = now() where token_id = $1', [tokenId])
}

t.test('a batch is issued with its defaults and shown once', async (t) => {
  const at = Date.now()
  const made = await service.call('POST', PATH, {
    body: { aliases: ['shown-1', null] },
    headers: { 'x-request-id': 'shown' },
  })
  t.equal(made.status, 201)
  t.match(made.body.tokens, [
    { alias: 'shown-1', token: /^et_[A-Za-z0-9_-]{43}$/, uses_allowed: 1, expires_at: /Z$/ },
    { alias: null },
  ])
  const lifeS = (Date.parse(made.body.tokens[0].expires_at) - at) / 1000
  t.ok(lifeS > 2_690 && lifeS < 2_760, `expires_in_sec is 2700 unless it is given: ${lifeS}`)
  const created = (await story('shown')).filter((line) => line.event === 'sec.token.create')
  t.match(
    created,
    made.body.tokens.map(({ token_id }: Issued) => ({
      level: 'INFO',
      reason: null,
      token_id: token_id.slice(-4),
      admin: 'tester',
      status_code: null,
    })),
  )
  t.match(await service.lines.terminalOf('shown'), { event: 'http.request', admin: 'tester' })
})

t.test('a bad list or option is 422 and issues nothing', async (t) => {
  const many = Array.from({ length: 101 }, (_, index) => `m-${index}`)
  const before = await db.query('select count(*) from enrollment_tokens')
  for (const [field, body] of [
    ['aliases', {}],
    ['aliases', { aliases: [] }],
    ['aliases', { aliases: many }],
    ['aliases', { aliases: 'D01' }],
    ['aliases', { aliases: ['ok', 'not ok'] }],
    ['aliases', { aliases: ['ok', 7] }],
    ['expires_in_sec', { aliases: ['x'], expires_in_sec: 59 }],
    ['expires_in_sec', { aliases: ['x'], expires_in_sec: 2_592_001 }],
    ['uses_allowed', { aliases: ['x'], uses_allowed: 0 }],
    ['uses_allowed', { aliases: ['x'], uses_allowed: 1_001 }],
    ['uses_allowed', { aliases: ['x'], uses_allowed: '2' }],
    ['note', { aliases: ['x'], note: 5 }],
  ] as const) {
    const refused = await service.call('POST', PATH, { body })
    t.match(refused, { status: 422, body: { code: 'invalid_field', errors: [{ field }] } })
  }
  t.same((await db.query('select count(*) from enrollment_tokens')).rows, before.rows)
})

t.test('a dead token is refused with its own code and two lines', async (t) => {
  const [expired, revoked, exhausted] = await issue(['dead-1', 'dead-2', 'dead-3'])
  await expire(expired?.token_id)
  await service.call('DELETE', `${PATH}/${revoked?.token_id}`)
  t.equal((await register(exhausted?.token, 'dead-first', { hardware_id: 'H' })).status, 201)
  for (const [reason, issued] of [
    ['expired', expired],
    ['revoked', revoked],
    ['exhausted', exhausted],
    ['unknown', { token: `et_${'A'.repeat(43)}`, token_id: null }],
  ] as const) {
    const id = `dead-${reason}`
    t.match(await register(issued?.token, id), { status: 401, body: { code: `token_${reason}` } })
    const tokenId = issued?.token_id?.slice(-4) ?? null
    const lines = (await story(id)).filter((line) => line.event !== 'register.request')
    t.match(lines, [
      { event: 'sec.token.expired', level: 'WARN', reason, token_id: tokenId, status_code: null },
      { event: 'register.fail', level: 'WARN', token_id: tokenId, result: `token_${reason}` },
    ])
    t.match(lines[1], { status_code: 401, latency_ms: Number, route: '/v1/register' })
  }
})

t.test('a registration tells its story in lines with all common keys', async (t) => {
  const [issued] = await issue(['story-1'])
  const { body } = await register(issued?.token, 'story-ok')
  const tokenId = issued?.token_id.slice(-4)
  const lines = await story('story-ok')
  t.match(lines, [
    { event: 'register.request', level: 'INFO', result: null, status_code: null },
    { event: 'sec.token.consume', level: 'INFO', reason: null, token_id: tokenId, admin: null },
    { event: 'register.success', level: 'INFO', token_id: tokenId, result: 'created' },
  ])
  t.match(lines[2], { device_id: body.device_id, alias: 'story-1', status_code: 201 })
  t.equal((await register(issued?.token, 'story-bad', { sdk_int: 'x' })).status, 422)
  t.match((await story('story-bad')).at(-1), { event: 'register.fail', result: 'invalid_field' })
  for (const line of service.lines.all) {
    t.same(
      Object.keys(line).slice(0, COMMON_KEYS.length),
      COMMON_KEYS,
      `${line.event} has the common keys`,
    )
  }
})

t.test('tokens are listed newest first by status, page by page, without secrets', async (t) => {
  const [active, exhausted, expired, revoked] = await issue(['l-1', 'l-2', 'l-3', 'l-4'], {
    note: 'listed',
  })
  await register(exhausted?.token, 'list-used')
  await expire(expired?.token_id)
  await service.call('DELETE', `${PATH}/${revoked?.token_id}`)
  for (const [status, issued] of Object.entries({ active, exhausted, expired, revoked })) {
    const { body } = await service.call('GET', `${PATH}?status=${status}&limit=500`)
    const mine = body.tokens.filter((row: { note: string }) => row.note === 'listed')
    t.match(mine, [{ token_id: issued?.token_id, alias: issued?.alias, status }], status)
    t.equal(mine.length, 1, status)
    const ofAlias = (query: string) => service.call('GET', `${PATH}?alias=${issued?.alias}${query}`)
    t.same((await ofAlias('')).body, { tokens: mine, next_cursor: null }, `of ${issued?.alias}`)
    t.same((await ofAlias(`&status=${status}`)).body.tokens, mine)
    const other = status === 'active' ? 'revoked' : 'active'
    t.same((await ofAlias(`&status=${other}`)).body.tokens, [])
  }
  const all = await service.call('GET', `${PATH}?limit=500`)
  t.equal(all.body.next_cursor, null)
  t.match(all.body.tokens[0], { uses_allowed: 1, issued_by: 'tester', issued_at: /Z$/ })
  const ids: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const after: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const page: TestResponse = await service.call('GET', `${PATH}?limit=2${after}`)
    ids.push(...page.body.tokens.map((row: Issued) => row.token_id))
    cursor = page.body.next_cursor
  }
  t.same(
    ids,
    all.body.tokens.map((row: Issued) => row.token_id),
    'pages hold each token once',
  )
  t.equal((await service.call('GET', `${PATH}?status=dead`)).status, 422)
})

t.test(
  'whatever a token is besides, it is one thing to all: revoked, expired, exhausted',
  async (t) => {
    const both = [false, true]
    const facts = both.flatMap((isRevoked) =>
      both.flatMap((isExpired) => both.map((isUsed) => ({ isRevoked, isExpired, isUsed }))),
    )
    const aliases = facts.map((_, n) => `word-${n}`)
    const tokens = await issue(aliases, { note: 'words' })
    const words: string[] = []
    for (const [n, { isRevoked, isExpired, isUsed }] of facts.entries()) {
      await db.query(
        `update enrollment_tokens set revoked_at = case when $2 then now() end,
         expires_at = case when $3 then now() else expires_at end, uses_consumed = $4
       where token_id = $1`,
        [tokens[n]?.token_id, isRevoked, isExpired, Number(isUsed)],
      )
      const dead = [isRevoked && 'revoked', isExpired && 'expired', isUsed && 'exhausted']
      words.push(dead.find((word) => word !== false) ?? 'active')
    }
    for (const status of new Set(words)) {
      const { body } = await service.call('GET', `${PATH}?status=${status}&limit=500`)
      const listed = body.tokens.filter(({ note }: { note: string }) => note === 'words')
      const own = aliases.filter((_, n) => words[n] === status)
      t.same(listed.map(({ alias }: Issued) => alias).toSorted(), own, `listed as ${status}`)
    }
    for (const [n, word] of words.entries()) {
      const title = JSON.stringify(facts[n])
      const { status, body } = await register(tokens[n]?.token, `word-${n}`)
      t.same(
        word === 'active' ? status : body.code,
        word === 'active' ? 201 : `token_${word}`,
        title,
      )
      const revoked = await service.call('DELETE', `${PATH}/${tokens[n]?.token_id}`)
      t.equal(revoked.status, word === 'revoked' ? 204 : 409, title)
    }
  },
)

t.test('revocation is at once, repeatable, refused for dead tokens, and audited', async (t) => {
  const [live, used, expired] = await issue(['r-1', 'r-2', 'r-3'])
  const revoke = (id: string | undefined, requestId: string) =>
    service.call('DELETE', `${PATH}/${id}`, { headers: { 'x-request-id': requestId } })
  await register(used?.token, 'revoke-used')
  await expire(expired?.token_id)
  const unknown = '018f0000-0000-7000-8000-000000000000'

  t.equal((await revoke(live?.token_id, 'revoke-1')).status, 204)
  t.match(await register(live?.token, 'revoke-shown'), { body: { code: 'token_revoked' } })
  t.equal((await revoke(live?.token_id.toUpperCase(), 'revoke-2')).status, 204)
  const notActive = { status: 409, body: { code: 'token_not_active' } }
  t.match(await revoke(used?.token_id, 'revoke-3'), notActive)
  t.match(await revoke(expired?.token_id, 'revoke-4'), notActive)
  const notFound = { status: 404, body: { code: 'token_not_found' } }
  t.match(await revoke(unknown, 'revoke-5'), notFound)
  t.match(await revoke('no-uuid', 'revoke-6'), notFound)
  t.match(await story('revoke-1'), [
    { event: 'sec.token.revoke', token_id: live?.token_id.slice(-4), admin: 'tester' },
    { event: 'http.request', status_code: 204, admin: 'tester' },
  ])
  const { body } = await service.call('GET', '/admin/audit?limit=500')
  const audited = body.audit.filter((row: Record<string, string>) =>
    row['request_id']?.startsWith('revoke-'),
  )
  t.match(
    audited.map((row: Record<string, unknown>) => [row['request_id'], row['subject']]).reverse(),
    [
      ['revoke-used', String],
      ['revoke-1', live?.token_id],
      ['revoke-2', live?.token_id],
      ['revoke-3', used?.token_id],
      ['revoke-4', expired?.token_id],
      ['revoke-5', unknown],
    ],
  )
  t.match(audited[0], { admin: 'tester', what: 'enrollment_token.revoke', ip: '127.0.0.1' })
})

t.test(
  'an admin issues so many tokens an hour, another admin has an hour of his own',
  async (t) => {
    const ask = (count: number, requestId: string, token = OTHER_ADMIN) => {
      const aliases = Array.from({ length: count }, () => null)
      return service.call('POST', PATH, {
        token,
        body: { aliases },
        headers: { 'x-request-id': requestId },
      })
    }
    const both = await Promise.all([ask(LIMIT - 1, 'rate-1'), ask(LIMIT - 1, 'rate-2')])
    t.same(both.map(({ status }) => status).sort(), [201, 429], 'two at once cannot both pass')
    t.equal((await ask(1, 'rate-3')).status, 201)
    const refused = await ask(1, 'rate-4')
    t.match(refused, { status: 429, body: { code: 'rate_limited' } })
    const retryAfterS = Number(refused.headers.get('retry-after'))
    t.ok(retryAfterS > 3_500 && retryAfterS <= 3_600, `Retry-After: ${retryAfterS}`)
    t.match(await story('rate-4'), [
      { event: 'sec.token.ratelimit', level: 'WARN', reason: String, status_code: 429 },
    ])
    t.equal((await ask(1, 'rate-5', `${OTHER_ADMIN}-3`)).status, 201)
    const hourAgo =
      "update enrollment_tokens set issued_at = now() - interval '1 hour' where issued_by = $1"
    await db.query(hourAgo, ['other'])
    t.equal((await ask(LIMIT, 'rate-6')).status, 201, 'the hour slides')
    await db.query(`update enrollment_tokens set issued_at = now() - interval '50 minutes'
    where token_id in (select token_id from enrollment_tokens where request_id = 'rate-6' limit 10)`)
    await db.query(`update enrollment_tokens set issued_at = issued_at - interval '1 hour'
      where token_id in (select token_id from enrollment_tokens
        where request_id = 'rate-6' order by issued_at desc limit 2)`)
    const used = LIMIT - 2
    for (const [count, atLeastS, atMostS] of [
      [3, 500, 600],
      [12, 500, 600],
      [13, 3_500, 3_600],
      [LIMIT + 1, 3_599, 3_600], // never
    ] as const) {
      const { status, headers, body } = await ask(count, `rate-7-${count}`)
      const afterS = Number(headers.get('retry-after'))
      t.equal(status, 429)
      t.ok(afterS > atLeastS && afterS <= atMostS, `${count} more fit in ${afterS} s`)
      const room =
        count > LIMIT
          ? `${count} at once never fit: ask for at most ${LIMIT}.`
          : `${count} more fit in ${afterS} s.`
      t.equal(
        body.detail,
        `tokens_per_hour: ${used} of ${LIMIT} enrollment tokens of this admin within an hour are used. ${room}`,
      )
      t.same(
        ['limit', 'remaining', 'reset'].map((name) => headers.get(`ratelimit-${name}`)),
        [`${LIMIT}`, '2', `${afterS}`],
      )
    }
    const { rows } = await db.query('select count(*)::int as n from audit_log where admin = $1', [
      'other',
    ])
    t.same(rows, [{ n: 2 * LIMIT }], 'what was refused is not in the audit log')
  },
)

t.test('a batch has at most a hundred tokens', async (t) => {
  const service = await startService(t)
  const ask = (count: number) =>
    service.call('POST', PATH, { body: { aliases: Array.from({ length: count }, () => null) } })
  for (const count of [0, 101]) {
    const { status, body } = await ask(count)
    t.match([status, body.detail], [422, 'aliases: must be a list of 1 to 100 aliases'])
  }
  const { status, body } = await ask(100)
  t.same([status, body.tokens.length], [201, 100])
})

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
