/** Bodies that may take long to parse take turns, each after a pause as long as nine of the one before; none waits for long. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { LargeBodies } from '../../src/http/body/large-bodies.ts'

/** http/body/large-bodies.ts. */
const LARGE_BODY_BYTES = 16 * 1024
const MANY_OBJECTS = 160
const MAX_WAITING_OF_KEY = 4
const MAX_WAITING_BODIES = 128
const LARGE_BODY_WAIT_MS = 2_000
const PAUSES_PER_WORK = 9
const MAX_PAUSE_MS = 500

const LARGE = Buffer.alloc(LARGE_BODY_BYTES + 1)

function withClock() {
  const clock = { nowMs: 0 }
  const pauses: { readonly run: () => void; readonly ms: number }[] = []
  const bodies = new LargeBodies(
    () => clock.nowMs,
    (run, ms) => pauses.push({ run, ms }),
  )
  const done: string[] = []
  const parse = (key: string, ms = 0, isOver = () => false, bytes = LARGE) =>
    bodies.run({ bytes, key, isOver }, async () => {
      clock.nowMs += ms
      done.push(key)
    })
  /** Ends the pause; returns its length. */
  const endPause = async () => {
    await setImmediate()
    await setImmediate()
    const pause = pauses.shift()
    pause?.run()
    return pause?.ms
  }
  return { clock, bodies, done, parse, endPause }
}

t.test('a small one waits for nobody; of large ones, one in each turn', async (t) => {
  const { done, parse, endPause } = withClock()
  const waiting = [parse('one', 7), parse('two'), parse('three')]
  await parse('small', 0, undefined, LARGE.subarray(1))
  t.same(done, ['small'])
  t.equal(await endPause(), 1)
  t.same(done, ['small', 'one'])
  t.equal(await endPause(), PAUSES_PER_WORK * 7, 'the next one waits as long as that took')
  t.same(done, ['small', 'one', 'two'])
  t.equal(await endPause(), 1, 'that took no time')
  await Promise.all(waiting)
  t.equal(await endPause(), undefined)
})

t.test('one that has many objects and arrays is large, however short it is', async (t) => {
  const { done, parse, endPause } = withClock()
  const few = MANY_OBJECTS / 2
  await parse('few', 0, undefined, Buffer.from('{"a":['.repeat(few)))
  const many = parse('many', 0, undefined, Buffer.from(`${'{"a":['.repeat(few)}[`))
  t.same(done, ['few'])
  await endPause()
  await many
})

t.test('many of one phone do not keep those of another waiting', async (t) => {
  const { done, parse, endPause } = withClock()
  const waiting = ['many', 'many', 'many', 'many', 'few'].map((key) => parse(key))
  for (let nth = 0; nth < 4; nth += 1) await endPause()
  t.ok(done.includes('few'), done.join(' '))
  while ((await endPause()) !== undefined);
  await Promise.all(waiting)
})

t.test('who waits for too long is refused, and who has left delays nobody', async (t) => {
  const { clock, done, parse, endPause } = withClock()
  const late = t.rejects(parse('late'), { code: 'overloaded' })
  clock.nowMs = LARGE_BODY_WAIT_MS + 1
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
  clock.nowMs = LARGE_BODY_WAIT_MS + 1
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
  const body = { bytes: LARGE, key: 'bad', isOver: () => false }
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
