/** The lines of registrations and enrollment tokens. */
import t from 'tap'
import { connect } from '../helpers/database.ts'
import { head, openRaw } from '../helpers/raw.ts'
import { startService } from '../helpers/service.ts'
import { end, inside, story, theme } from './helpers.ts'

const { compare, compareOnly } = theme(t, {
  'register.request': ['INFO'],
  'register.success': ['INFO created', 'INFO re_enrolled', 'INFO reissued'],
  'register.fail': [
    'WARN token_unknown',
    'WARN token_expired',
    'WARN token_revoked',
    'WARN token_exhausted',
    'WARN unauthenticated',
    'WARN alias_mismatch',
    'WARN alias_taken',
    'WARN bad_json',
    'WARN client_closed',
  ],
  'sec.token.create': ['INFO'],
  'sec.token.consume': ['INFO', 'INFO reissue'],
  'sec.token.revoke': ['INFO'],
  'sec.token.expired': ['WARN expired', 'WARN revoked', 'WARN exhausted', 'WARN unknown'],
  'sec.token.ratelimit': ['WARN tokens_per_hour'],
})
const service = await startService(t, { env: { RATE_LIMIT_TOKENS_PER_HOUR: '20' } })
const db = await connect(t, service.databaseUrl)
const REGISTER = '/v1/register'
const TOKENS = '/v1/enroll-tokens'

async function issue(alias: string | null, body: object = {}) {
  const response = await service.call('POST', TOKENS, { body: { aliases: [alias], ...body } })
  const { token, token_id: id } = response.body.tokens[0]
  return {
    alias,
    token: String(token),
    id: String(id),
    tokenId: String(id).slice(-4),
    answer: response,
  }
}

const register = (token: string | null, body: object = {}) =>
  service.call('POST', REGISTER, { token, body })

t.test('a token is made and revoked, each with one line beside the request’s own', async (t) => {
  const { id, tokenId, answer: response } = await issue('made')
  const made = { reason: null, token_id: tokenId, admin: 'tester' }
  const context = inside(response.requestId, TOKENS)
  await compareOnly(t, service, 'sec.token.create', 'INFO', context, made)
  t.equal((await story(service, response.requestId)).at(-1)?.event, 'http.request')

  const revoked = await service.call('DELETE', `${TOKENS}/${id}`)
  const route = '/v1/enroll-tokens/{token_id}'
  const at = inside(revoked.requestId, route)
  await compareOnly(t, service, 'sec.token.revoke', 'INFO', at, made)
})

t.test('created, reissued, re-enrolled', async (t) => {
  const first = await issue('D01')
  const second = await issue('D01')
  const results = [
    { token: first, result: 'created', status: 201, reason: null },
    { token: first, result: 'reissued', status: 200, reason: 'reissue' },
    { token: second, result: 're_enrolled', status: 200, reason: null },
  ] as const
  for (const { token, result, status, reason } of results) {
    const response = await register(token.token, { hardware_id: 'H1' })
    t.equal(response.status, status)
    const { requestId } = response
    const device = { deviceId: response.body.device_id, alias: 'D01' }
    const token_id = token.tokenId
    const arrived = inside(requestId, REGISTER, { alias: 'D01' })
    const known = inside(requestId, REGISTER, device)
    const judged = { token_id, result: null }
    await compareOnly(t, service, 'register.request', 'INFO', arrived, judged)
    const consumed = { reason, token_id, admin: null }
    await compareOnly(t, service, 'sec.token.consume', 'INFO', known, consumed)
    const ended = end(response, REGISTER, device)
    await compareOnly(t, service, 'register.success', 'INFO', ended, { token_id, result })
    t.same(
      (await story(service, requestId)).map(({ event }) => event),
      ['register.request', 'sec.token.consume', 'register.success'],
    )
  }
})

t.test('a dead token: what it is, and the end of the request', async (t) => {
  const expired = await issue('expired')
  await db.query(
    `update enrollment_tokens set issued_at = now() - interval '2 h', expires_at = now() - interval '1 h'
     where token_id = $1`,
    [expired.id],
  )
  const revoked = await issue('revoked')
  await service.call('DELETE', `${TOKENS}/${revoked.id}`)
  const exhausted = await issue('exhausted')
  const { body } = await register(exhausted.token)
  await service.call('POST', '/v1/heartbeat', { token: body.device_token, body: {} })
  const cases = [
    ['expired', expired.token, expired.tokenId, { alias: 'expired' }],
    ['revoked', revoked.token, revoked.tokenId, { alias: 'revoked' }],
    ['exhausted', exhausted.token, exhausted.tokenId, { alias: 'exhausted' }],
    ['unknown', `et_${'a'.repeat(43)}`, null, {}],
    ['unknown', 'anything', null, {}],
  ] as const
  for (const [reason, token, token_id, bound] of cases) {
    const response = await register(token)
    t.equal(response.status, 401, reason)
    const at = inside(response.requestId, REGISTER, bound)
    await compareOnly(t, service, 'sec.token.expired', 'WARN', at, { reason, token_id })
    const failed = { token_id, result: `token_${reason}` }
    await compareOnly(t, service, 'register.fail', 'WARN', end(response, REGISTER, bound), failed)
    const isRead = token_id !== null // a token that we never issued is refused before the body
    t.same(
      (await story(service, response.requestId)).map(({ event }) => event),
      [...(isRead ? ['register.request'] : []), 'sec.token.expired', 'register.fail'],
    )
    if (reason !== 'expired' && reason !== 'revoked') continue
    const again = await register(token, { sdk_int: 'x' })
    t.equal(again.status, 401, 'before its body and without a look-up')
    const own = { token_id, result: `token_${reason}` }
    await compareOnly(t, service, 'register.fail', 'WARN', end(again, REGISTER, bound), own)
    t.same(
      (await story(service, again.requestId)).map(({ event }) => event),
      ['sec.token.expired', 'register.fail'],
    )
  }
})

t.test('a refusal of the route has only the two lines of a registration', async (t) => {
  const bound = await issue('bound')
  const unbound = await issue(null)
  const cases = [
    [await register(bound.token, { alias: 'other' }), 'alias_mismatch', bound],
    [await register(unbound.token, { alias: 'D01' }), 'alias_taken', unbound],
  ] as const
  for (const [response, result, { tokenId: token_id, alias }] of cases) {
    const known = alias === null ? {} : { alias } // the token's, not the one that was asked for
    const arrived = inside(response.requestId, REGISTER, known)
    const judged = { token_id, result: null }
    await compareOnly(t, service, 'register.request', 'INFO', arrived, judged)
    const ended = end(response, REGISTER, known)
    await compareOnly(t, service, 'register.fail', 'WARN', ended, { token_id, result })
    t.same(
      (await story(service, response.requestId)).map(({ event }) => event),
      ['register.request', 'register.fail'],
    )
  }
})

t.test('a body that cannot be used names its token, a look-up that fails names none', async (t) => {
  const { token, tokenId } = await issue('unjudged')
  const nothing = { token_id: null, result: null }
  for (const body of [{ alias: 'no alias' }, { sdk_int: 'x' }, { hardware_id: 7 }, { model: [] }]) {
    const odd = await register(token, body)
    t.equal(odd.status, 422)
    const alias = 'unjudged'
    const arrived = inside(odd.requestId, REGISTER, { alias })
    const request = { token_id: tokenId, result: null }
    await compareOnly(t, service, 'register.request', 'INFO', arrived, request)
    const failed = { token_id: tokenId, result: 'invalid_field' }
    await compareOnly(t, service, 'register.fail', 'WARN', end(odd, REGISTER, { alias }), failed)
  }

  await db.query('begin')
  await db.query('lock table enrollment_tokens in access exclusive mode')
  const away = await register(token)
  await db.query('commit')
  t.equal(away.status, 503)
  const unknown = inside(away.requestId, REGISTER)
  await compareOnly(t, service, 'register.request', 'INFO', unknown, nothing)
  t.same(
    (await story(service, away.requestId)).map(({ event, alias }) => [event, alias]),
    [
      ['register.request', null],
      ['http.error', null],
    ],
  )
})

t.test(
  'a token of an older release, without a tag, is known before the body is read',
  async (t) => {
    const { id, tokenId } = await issue('untagged')
    const token = `et_${'b'.repeat(42)}A`
    await db.query('update enrollment_tokens set token_hash = sha256($2) where token_id = $1', [
      id,
      Buffer.from(token),
    ])
    const headers = { 'content-type': 'application/json' }
    const bad = await service.call('POST', REGISTER, { token, raw: '{', headers })
    const own = { token_id: tokenId, result: 'bad_json' }
    const ended = end(bad, REGISTER, { alias: 'untagged' })
    await compareOnly(t, service, 'register.fail', 'WARN', ended, own)
  },
)

t.test('what is refused before its body is read has no register.request', async (t) => {
  const { token } = await issue('unread')
  const headers = { 'content-type': 'application/json' }
  const bad = await service.call('POST', REGISTER, { token, raw: '{', headers })
  const own = { token_id: null, result: 'bad_json' }
  await compareOnly(t, service, 'register.fail', 'WARN', end(bad, REGISTER), own)
  t.same(
    (await story(service, bad.requestId)).map(({ event }) => event),
    ['register.fail'],
  )

  const none = await register(null)
  const missing = { token_id: null, result: 'unauthenticated' }
  await compareOnly(t, service, 'register.fail', 'WARN', end(none, REGISTER), missing)
  t.same(
    (await story(service, none.requestId)).map(({ event, reason }) => [event, reason]),
    [
      ['sec.auth.denied', 'missing'],
      ['register.fail', undefined],
    ],
  )

  const leaving = await openRaw(t, service.origin)
  leaving.write(
    head(
      `POST ${REGISTER} HTTP/1.1`,
      `Authorization: Bearer ${token}`,
      'User-Agent: node',
      'X-Request-ID: left',
      'Expect: 100-continue',
      'Content-Length: 9',
    ),
  )
  await leaving.answer() // 100: its request is in flight
  leaving.destroy()
  const left = end({ requestId: 'left', status: 499 }, REGISTER)
  const gone = { token_id: null, result: 'client_closed' }
  await compareOnly(t, service, 'register.fail', 'WARN', left, gone)
})

t.test('who asks for too many tokens an hour', async (t) => {
  const aliases = Array.from({ length: 20 }, (_, index) => `many-${index}`)
  const response = await service.call('POST', TOKENS, { body: { aliases } })
  t.equal(response.status, 429)
  const lines = await story(service, response.requestId)
  t.equal(lines.length, 1)
  const own = { reason: 'tokens_per_hour', token_id: null }
  for (const line of lines) {
    compare(t, line, 'sec.token.ratelimit', 'WARN', end(response, TOKENS), own)
  }
})
