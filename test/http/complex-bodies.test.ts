/** Bodies that take long to parse take turns, each after a pause that grows with the last one; none waits for long. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { ComplexBodies } from '../../src/http/body/complex-bodies.ts'
import { hashToken } from '../../src/security/tokens.ts'
import { startService } from '../helpers/service.ts'

/** http/body/complex-bodies.ts. */
const MANY_SIGNS = 1_536
const MAX_WAITING_OF_KEY = 4
const MAX_WAITING_BODIES = 32
const COMPLEX_BODY_WAIT_MS = 5_000
const PAUSE_PER_SQUARE = 25
const MAX_PAUSE_MS = 1_000
const OPENING = 4
const COMPLEX = Buffer.from(','.repeat(MANY_SIGNS + 1))

function withClock() {
  const clock = { nowMs: 0 }
  const pauses: { readonly end: () => void; readonly ms: number }[] = []
  const bodies = new ComplexBodies(
    () => clock.nowMs,
    (ms) => new Promise<void>((end) => pauses.push({ end, ms })),
  )
  const done: string[] = []
  const parse = (key: string, ms = 0, isOver = () => false, bytes = COMPLEX) =>
    bodies.run({ bytes, token: { tokenHash: hashToken(key) }, isOver }, async () => {
      clock.nowMs += ms
      done.push(key)
    })
  /** Ends the pause; returns its length. */
  const endPause = async () => {
    await setImmediate()
    const pause = pauses.shift()
    clock.nowMs += pause?.ms ?? 0
    pause?.end()
    await setImmediate()
    return pause?.ms
  }
  return { clock, bodies, done, parse, endPause }
}

t.test('a simple one waits for nobody; of complex ones, one after each pause', async (t) => {
  const { done, parse, endPause } = withClock()
  const waiting = [parse('one', 4), parse('two'), parse('three')]
  await parse('simple', 0, undefined, COMPLEX.subarray(1))
  await waiting[0]
  t.same(done, ['one', 'simple'])
  t.equal(
    await endPause(),
    PAUSE_PER_SQUARE * 4 * 4,
    'the next one waits the longer the longer that took',
  )
  t.same(done, ['one', 'simple', 'two'])
  t.equal(await endPause(), 1, 'that took no time')
  await Promise.all(waiting)
  const last = parse('last')
  t.equal(await endPause(), 1)
  await last
  t.equal(await endPause(), undefined)
})

t.test('the next turn does not wait for the rest of the work', async (t) => {
  const { bodies, done, parse, endPause } = withClock()
  const token = { tokenHash: hashToken('slow') }
  void bodies.run({ bytes: COMPLEX, token, isOver: () => false }, () => new Promise(() => {}))
  const next = parse('next')
  await endPause()
  await next
  t.same(done, ['next'])
})

t.test('what is complex', async (t) => {
  const { done, parse, endPause } = withClock()
  const items = MANY_SIGNS / 2
  const simple = {
    'a heartbeat that names 128 apps': JSON.stringify({
      ...{ status: 'ok', battery: { pct: 1 }, network: {}, system: {}, memory: {} },
      app_versions: Object.fromEntries(
        Array.from({ length: 128 }, (_, nth) => [
          `com.example.app${nth}`,
          { version_code: nth, version_name: '1.0', installed: true },
        ]),
      ),
    }),
    'the largest text': JSON.stringify({ output: 'a'.repeat(65_000) }),
    'signs within a text': JSON.stringify({ output: '"\\[{:,'.repeat(9_000) }),
    'as many signs as it may have': `${'"a":1,'.repeat(items)}`,
    'as many arrays as it may have': '['.repeat(MANY_SIGNS / OPENING),
  }
  const complex = {
    'many names': `{${'"a":1,'.repeat(items)}"a":1}`,
    'many values': `[${'1,'.repeat(2 * items)}1]`,
    'many objects': '{'.repeat(MANY_SIGNS / OPENING + 1),
    'many arrays': '['.repeat(MANY_SIGNS / OPENING + 1),
    'many signs after a text': `["\\\\"${',"\\""'.repeat(2 * items)}]`,
  }
  await parse('the pause begins')
  for (const [what, body] of Object.entries(simple)) {
    await parse(what, 0, undefined, Buffer.from(body))
    t.ok(done.includes(what), what)
  }
  for (const [what, body] of Object.entries(complex)) {
    const parsing = parse(what, 0, undefined, Buffer.from(body))
    t.notOk(done.includes(what), what)
    await endPause()
    await parsing
  }
})

t.test('many of one phone do not keep those of another waiting', async (t) => {
  const { done, parse, endPause } = withClock()
  const waiting = ['many', 'many', 'many', 'many', 'few'].map((key) => parse(key))
  for (let nth = 0; nth < 2; nth += 1) await endPause()
  t.same(done, ['many', 'many', 'few'])
  while ((await endPause()) !== undefined);
  await Promise.all(waiting)
})

t.test('phones that send costly ones without end do not keep another out', async (t) => {
  const { done, parse, endPause } = withClock()
  let phones = 0
  const attack = () => {
    phones += 1
    parse(`costly ${phones}`, 14).catch(() => {})
  }
  attack()
  attack()
  await endPause()
  const honest = parse('honest')
  while (!done.includes('honest')) {
    attack()
    if ((await endPause()) === undefined) break
  }
  await t.resolves(honest)
  while ((await endPause()) !== undefined);
})

t.test('who waits for too long is refused, not who is next', async (t) => {
  const { clock, done, parse, endPause } = withClock()
  const others = [parse('costly', 14), parse('next')]
  const late = t.rejects(parse('late'), {
    code: 'overloaded',
    failedCall: { cause: 'complex_bodies' },
  })
  await others[0] // the pause begins
  clock.nowMs += COMPLEX_BODY_WAIT_MS
  others.push(parse('last'))
  await late
  while ((await endPause()) !== undefined);
  await Promise.all(others)
  t.same(done, ['costly', 'next', 'last'])
})

t.test('who has left is given up without a pause, and shortens none', async (t) => {
  const { done, parse, endPause } = withClock()
  const waiting = [parse('costly', 4), parse('left', 0, () => true), parse('next')]
  await waiting[1]
  t.same(done, ['costly', 'left'])
  t.equal(await endPause(), PAUSE_PER_SQUARE * 4 * 4)
  await Promise.all(waiting)
  t.same(done, ['costly', 'left', 'next'])
})

t.test('of one phone few may wait, and of all phones not many', async (t) => {
  const { done, parse, endPause } = withClock()
  await parse('the pause begins')
  const waiting = [parse('next')]
  for (let nth = 0; nth < MAX_WAITING_BODIES; nth += 1) {
    waiting.push(parse(`${Math.floor(nth / MAX_WAITING_OF_KEY)}`))
  }
  await t.rejects(parse('0'), { code: 'overloaded' })
  const displaced = t.rejects(waiting.pop() ?? Promise.resolve(), {
    ...{ code: 'overloaded', message: 'Too many complex bodies at once. Send it again shortly.' },
  })
  waiting.push(parse('another phone'))
  await displaced
  while ((await endPause()) !== undefined);
  await Promise.all(waiting)
  t.equal(done.length, 1 + 1 + MAX_WAITING_BODIES)
})

t.test('a pause ends, though the process was held up', async (t) => {
  const { parse, endPause } = withClock()
  const waiting = [parse('one', 60_000), parse('two')]
  t.equal(await endPause(), MAX_PAUSE_MS)
  await Promise.all(waiting)
})

t.test('what the work throws is what its caller gets, and the others go on', async (t) => {
  const { bodies, done, parse, endPause } = withClock()
  const token = { tokenHash: hashToken('bad') }
  const body = { bytes: COMPLEX, token, isOver: () => false }
  const failed = t.rejects(
    bodies.run(body, async () => {
      throw new Error('no JSON')
    }),
    { message: 'no JSON' },
  )
  const next = parse('next')
  await failed
  await endPause()
  await next
  t.same(done, ['next'])
})

t.test('they take turns on every route of phones', async (t) => {
  const service = await startService(t)
  const { token } = await service.enroll('phone')
  const issued = await service.call('POST', '/v1/enroll-tokens', { body: { aliases: [null] } })
  const depth = 6_000
  const opened = Array.from({ length: depth }, (_, nth) => `{"${(100_000 + nth).toString(36)}":`)
  const costly = `${opened.join('')}0${'}'.repeat(depth)}`
  const complex = '['.repeat(MANY_SIGNS)
  const routes = {
    '/v1/heartbeat': token,
    '/v1/action-result': token,
    '/v1/register': issued.body.tokens[0].token,
  }
  const headers = { 'content-type': 'application/json' }
  const post = (path: string, credential: string, raw: string) =>
    service.call('POST', path, { token: credential, headers, raw })
  for (const [path, credential] of Object.entries(routes)) {
    const sinceMs = performance.now()
    t.equal((await post('/v1/heartbeat', token, costly)).status, 200)
    t.equal((await post(path, credential, complex)).status, 400, path)
    // The pause after a parse time of at least 2 ms, however slow the rest is.
    t.ok(performance.now() - sinceMs >= PAUSE_PER_SQUARE * 2 ** 2, path)
  }
})
