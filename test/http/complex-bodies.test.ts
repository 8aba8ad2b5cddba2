/** Bodies that take long to parse take turns, each after a pause that grows with the last one; none waits for long. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { ComplexBodies } from '../../src/http/body/complex-bodies.ts'
import { hashToken } from '../../src/security/tokens.ts'

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
  const pauses: { readonly run: () => void; readonly ms: number }[] = []
  const bodies = new ComplexBodies(
    () => clock.nowMs,
    (run, ms) => pauses.push({ run, ms }),
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
    await setImmediate()
    const pause = pauses.shift()
    clock.nowMs += pause?.ms ?? 0
    pause?.run()
    return pause?.ms
  }
  return { clock, bodies, done, parse, endPause }
}

t.test('a simple one waits for nobody; of complex ones, one in each turn', async (t) => {
  const { done, parse, endPause } = withClock()
  const waiting = [parse('one', 4), parse('two'), parse('three')]
  await parse('simple', 0, undefined, COMPLEX.subarray(1))
  t.same(done, ['simple'])
  t.equal(await endPause(), 1)
  t.same(done, ['simple', 'one'])
  t.equal(
    await endPause(),
    PAUSE_PER_SQUARE * 4 * 4,
    'the next one waits the longer the longer that took',
  )
  t.same(done, ['simple', 'one', 'two'])
  t.equal(await endPause(), 1, 'that took no time')
  await Promise.all(waiting)
  t.equal(await endPause(), undefined)
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
  for (const [what, body] of Object.entries(simple))
    await parse(what, 0, undefined, Buffer.from(body))
  t.same(done, Object.keys(simple))
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
  for (let nth = 0; nth < 4; nth += 1) await endPause()
  t.ok(done.includes('few'), done.join(' '))
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

t.test('who waits for too long is refused, and who has left delays nobody', async (t) => {
  const { clock, done, parse, endPause } = withClock()
  const late = t.rejects(parse('late'), { code: 'overloaded' })
  clock.nowMs = COMPLEX_BODY_WAIT_MS + 1
  const waiting = [parse('left', 0, () => true), parse('next')]
  await endPause()
  await Promise.all([late, ...waiting])
  t.same(done, ['left', 'next'])
})

t.test('those who wait for too long are refused together, however many others come', async (t) => {
  const { clock, done, parse, endPause } = withClock()
  const late = ['one', 'two', 'three', 'four'].map((key) =>
    t.rejects(parse(key), { code: 'overloaded' }),
  )
  clock.nowMs = COMPLEX_BODY_WAIT_MS + 1
  const waiting = ['five', 'six'].map((key) => parse(key))
  await endPause()
  await Promise.all(late)
  t.equal(done.length, 1)
  await endPause()
  await Promise.all(waiting)
})

t.test('of one phone few may wait, and of all phones not many', async (t) => {
  const { done, parse, endPause } = withClock()
  const waiting: Promise<void>[] = []
  for (let nth = 0; nth < MAX_WAITING_BODIES; nth += 1) {
    waiting.push(parse(`${Math.floor(nth / MAX_WAITING_OF_KEY)}`))
  }
  await t.rejects(parse('0'), { code: 'rate_limited' })
  await t.rejects(parse('more'), { code: 'overloaded' })
  await endPause()
  t.same(done, ['0'])
  waiting.push(parse('0'))
  await t.rejects(parse('more'), { code: 'overloaded' })
  while ((await endPause()) !== undefined);
  await Promise.all(waiting)
})

t.test('a pause ends, though the process was held up', async (t) => {
  const { parse, endPause } = withClock()
  const waiting = [parse('one', 60_000), parse('two')]
  await endPause()
  t.equal(await endPause(), MAX_PAUSE_MS)
  await t.rejects(Promise.all(waiting), { code: 'overloaded' })
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
  await endPause()
  await failed
  await endPause()
  await next
  t.same(done, ['next'])
})
