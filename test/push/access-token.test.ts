import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import t, { type Test } from 'tap'
import { startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { makeKeyPair, makeServiceAccount } from '../../sim/fcm/service-account.ts'
import {
  AccessTokenError,
  type AccessTokenOptions,
  createAccessTokens,
} from '../../src/push/access-token.ts'
import { listenFor } from '../helpers/listen.ts'

const MINUTE_MS = 60_000
const keyPair = await makeKeyPair()

/** Access tokens from a fake token endpoint, on a clock that only the test moves. */
async function start(t: Test, options: Partial<AccessTokenOptions> = {}) {
  const google = await startFakeFcm({ keyPair })
  t.teardown(() => google.close())
  let nowMs = Date.parse('2026-03-04T05:06:07Z')
  const tokens = createAccessTokens(google.serviceAccount.account, {
    timeoutMs: 5_000,
    proxy: null,
    ...options,
    nowMs: () => nowMs,
  })
  const pass = (ms: number) => {
    nowMs += ms
  }
  return { google, tokens, pass }
}

async function failureOf(work: Promise<unknown>): Promise<AccessTokenError> {
  const error = await work.then(
    () => new Error('it resolved'),
    (error: unknown) => error,
  )
  if (error instanceof AccessTokenError) return error
  throw error
}

t.test('100 concurrent cold calls make one token request', async (t) => {
  const { google, tokens } = await start(t)
  const got = await Promise.all(Array.from({ length: 100 }, () => tokens.get()))
  t.equal(new Set(got).size, 1)
  t.match(got[0], /^ya29\./)
  t.equal(google.requests.token, 1)
})

t.test('a cached token costs no request', async (t) => {
  const { google, tokens, pass } = await start(t)
  const first = await tokens.get()
  pass(54 * MINUTE_MS)
  t.equal(await tokens.get(), first)
  t.equal(google.requests.token, 1)
})

t.test('a token that would end within the request is not handed out', async (t) => {
  for (const [leftMs, isOld] of [
    [17_000, true],
    [13_000, false],
  ] as const) {
    const { tokens, pass } = await start(t)
    const first = await tokens.get()
    pass(60 * MINUTE_MS - leftMs)
    t.equal((await tokens.get()) === first, isOld, `${leftMs} ms before its end`)
  }
})

t.test('near its end a token is still handed out, and renewed behind the caller', async (t) => {
  const { google, tokens, pass } = await start(t)
  const first = await tokens.get()
  pass(56 * MINUTE_MS)
  t.strictSame(await Promise.all([tokens.get(), tokens.get()]), [first, first])
  const renewed = await tokens.refresh(first) // joins the renewal
  t.not(renewed, first)
  t.equal(await tokens.get(), renewed)
  t.equal(google.requests.token, 2)
})

for (const token of ['error', 'hang', 'invalid_grant'] as const) {
  t.test(`a token that is still valid is kept while the endpoint answers ${token}`, async (t) => {
    const { google, tokens, pass } = await start(t, { timeoutMs: 2_000, proxy: null })
    const first = await tokens.get()
    google.setMode({ token })
    pass(59 * MINUTE_MS)
    t.equal(await tokens.get(), first)
    t.equal(await tokens.get(), first)
    pass(MINUTE_MS)
    await t.rejects(tokens.get(), { name: 'AccessTokenError' }, 'and not once it has ended')
  })
}

t.test('an endpoint that hangs blocks nobody for ever, and later callers recover', async (t) => {
  const { google, tokens, pass } = await start(t, { timeoutMs: 2_000, proxy: null })
  google.setMode({ token: 'hang' })
  const failures = await Promise.all([failureOf(tokens.get()), failureOf(tokens.get())])
  t.match(failures, [
    { status: 'TIMEOUT', isPermanent: false, message: /did not answer in time/ },
    { status: 'TIMEOUT' },
  ])
  google.setMode({ token: 'ok' })
  pass(1_000)
  t.match(await tokens.get(), /^ya29\./)
})

t.test('the deadline bounds the exchange whatever the timeout of a request is', async (t) => {
  const { google, tokens } = await start(t, { timeoutMs: 3_600_000, deadlineMs: 50 })
  google.setMode({ token: 'hang' })
  t.match(await failureOf(tokens.get()), { status: 'TIMEOUT', isPermanent: false })
})

t.test('invalid_grant is permanent, is asked once and names the remedy', async (t) => {
  const { google, tokens } = await start(t)
  google.setMode({ token: 'invalid_grant' })
  const { isPermanent, message } = await failureOf(tokens.get())
  t.equal(isPermanent, true)
  t.match(
    message,
    /answered 400 invalid_grant: Invalid JWT Signature\.; check this machine's clock/,
  )
  t.equal(google.requests.token, 1)
})

t.test('a 500 is tried once more, and its error then stands for a second', async (t) => {
  const { google, tokens, pass } = await start(t)
  google.setMode({ token: 'error' })
  t.match(await failureOf(tokens.get()), { isPermanent: false, message: /answered 500/ })
  t.equal(google.requests.token, 2)
  for (let call = 0; call < 100; call += 1) await failureOf(tokens.get())
  t.equal(google.requests.token, 2)
  google.setMode({ token: 'ok' })
  pass(1_000)
  await tokens.get()
  t.equal(google.requests.token, 3)
})

t.test('refresh replaces the refused token once, however many ask', async (t) => {
  const { google, tokens } = await start(t)
  const refused = await tokens.get()
  const got = await Promise.all(Array.from({ length: 50 }, () => tokens.refresh(refused)))
  t.equal(new Set(got).size, 1)
  t.not(got[0], refused)
  t.equal(await tokens.refresh(refused), got[0], 'a late caller gets the one that is there')
  t.equal(google.requests.token, 2)
})

t.test('a refused token is not handed out again when its replacement fails', async (t) => {
  const { google, tokens } = await start(t)
  const refused = await tokens.get()
  google.setMode({ token: 'invalid_grant' })
  await failureOf(tokens.refresh(refused))
  await failureOf(tokens.get())
})

t.test('the self test takes a good key without network and refuses what cannot sign', async (t) => {
  const { google, tokens } = await start(t)
  await tokens.checkKey()
  t.equal(google.requests.token, 0)

  const account = google.serviceAccount.account
  const pem = account.privateKey
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const bad = [
    pem.replaceAll('\n', '\\n'),
    pem.slice(0, 400),
    '',
    ec.export({ type: 'pkcs8', format: 'pem' }).toString(),
  ]
  for (const privateKey of bad) {
    const broken = createAccessTokens({ ...account, privateKey }, { timeoutMs: 100, proxy: null })
    const error = await failureOf(broken.checkKey())
    t.match(error, { isPermanent: true, message: /private key cannot sign/ })
    t.notMatch(error.message, pem.slice(40, 60))
  }
  t.equal(google.requests.token, 0)
})

t.test('the self test fails where the library cannot be loaded', async (t) => {
  const { tokens } = await start(t)
  const { cache, resolve } = createRequire(import.meta.url)
  const path = resolve('google-auth-library')
  const loaded = cache[path]
  const get = () => {
    throw new Error('the library is damaged')
  }
  Object.defineProperty(cache, path, { get, configurable: true })
  t.teardown(() => {
    delete cache[path]
    if (loaded !== undefined) cache[path] = loaded
  })
  await t.rejects(tokens.checkKey(), { message: 'the library is damaged' })
})

t.test('a key that cannot sign is a permanent fault of get, too', async (t) => {
  const { google } = await start(t)
  const account = { ...google.serviceAccount.account, privateKey: 'no PEM' }
  const tokens = createAccessTokens(account, { timeoutMs: 5_000, proxy: null })
  t.match(await failureOf(tokens.get()), { isPermanent: true, message: /could not be signed/ })
  t.equal(google.requests.token, 0)
})

t.test('a key that the account does not know is refused for good', async (t) => {
  const { google } = await start(t)
  const { account } = google.serviceAccount
  const { privateKey } = (await makeServiceAccount(account)).account
  const tokens = createAccessTokens({ ...account, privateKey }, { timeoutMs: 5_000, proxy: null })
  t.match(await failureOf(tokens.get()), { isPermanent: true, message: /Invalid JWT Signature/ })
})

t.test('any other answer becomes a clear error without secrets', async (t) => {
  let response = { status: 200, body: '' }
  let assertion = ''
  const server = createServer(async (req, res) => {
    let form = ''
    for await (const chunk of req) form += chunk
    assertion = new URLSearchParams(form).get('assertion') ?? ''
    res
      .writeHead(response.status, { location: '/elsewhere' })
      .end(response.body.replace('ECHO', assertion))
  })
  const port = await listenFor(t, server)
  const tokenUri = `http://127.0.0.1:${port}/token`
  const { account } = await makeServiceAccount({ tokenUri, keyPair })

  const cases: [status: number, body: string, isPermanent: boolean, text: RegExp][] = [
    [200, '<html>sign in</html>', false, /answered 200 without an access_token/],
    [200, '{}', false, /answered 200 without an access_token/],
    [204, '', false, /answered 204 without an access_token/],
    [302, '', true, /answered 302$/],
    [404, '<html>', true, /answered 404$/],
    [429, '{}', false, /answered 429$/],
    [401, '{"error":"invalid_client","error_description":"no: ECHO"}', true, /invalid_client: no/],
    [400, '{"error":{"message":"odd"}}', true, /answered 400$/],
    [400, 'null', true, /answered 400$/],
  ]
  for (const [status, body, isPermanent, text] of cases) {
    response = { status, body }
    const error = await failureOf(
      createAccessTokens(account, { timeoutMs: 5_000, proxy: null }).get(),
    )
    t.equal(error.isPermanent, isPermanent, `${status} ${body}`)
    t.match(error.message, text)
    t.equal(error.cause, undefined)
    t.notOk(`${error.stack}`.includes(assertion.slice(0, 60)), 'no assertion in the error')
  }

  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  const gone = await failureOf(createAccessTokens(account, { timeoutMs: 5_000, proxy: null }).get())
  t.match(gone, {
    status: 'NETWORK',
    isPermanent: false,
    message: /not reachable \(connect ECONNREFUSED 127\.0\.0\.1:\d+\)/,
  })
})
