/** Enrollment tokens: issued, listed and revoked by admins, refused with a reason, and never told twice. */
import t from 'tap'
import type { TestResponse } from '../helpers/client.ts'
import { COMMON_KEYS } from '../helpers/lines.ts'
import { startService } from '../helpers/service.ts'
import {
  db,
  expire,
  type Issued,
  issue,
  LIMIT,
  OTHER_ADMIN,
  PATH,
  register,
  service,
  story,
} from './issuing.ts'

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
