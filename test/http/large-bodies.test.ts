/** Bodies that may take long to parse take turns, each after a pause as long as nine of the one before; none waits for long. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { LargeBodies } from '../../src/http/body/large-bodies.ts'

/** http/body/large-bodies.ts. */
const LARGE_BODY_BYTES = 4_096
const MAX_WAITING_OF_KEY_BYTES = 64 * 1024
const MAX_WAITING_LARGE_BYTES = 8 * 1024 * 1024
const LARGE_BODY_WAIT_MS = 2_000
const PAUSES_PER_WORK = 9
const MAX_PAUSE_MS = 500

function withClock() {
  const clock = { nowMs: 0 }
  const pauses: { readonly run: () => void; readonly ms: number }[] = []
  const bodies = new LargeBodies(
    () => clock.nowMs,
    (run, ms) => pauses.push({ run, ms }),
  )
  const done: string[] = []
  const parse = (key: string, ms = 0, isOver = () => false, sizeBytes = LARGE_BODY_BYTES + 1) =>
    bodies.run({ sizeBytes, key, isOver }, async () => {
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
  await parse('small', 0, undefined, LARGE_BODY_BYTES)
  t.same(done, ['small'])
  t.equal(await endPause(), 1)
  t.same(done, ['small', 'one'])
  t.equal(await endPause(), PAUSES_PER_WORK * 7, 'the next one waits as long as that took')
  t.same(done, ['small', 'one', 'two'])
  t.equal(await endPause(), 1, 'that took no time')
  await Promise.all(waiting)
  t.equal(await endPause(), undefined)
})

t.test('many of one phone do not keep those of another waiting', async (t) => {
  const { done, parse, endPause } = withClock()
  const waiting = Array.from({ length: 10 }, () => parse('many'))
  waiting.push(parse('few'))
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

t.test('more bytes than may wait are refused, until some of them wait no more', async (t) => {
  const { done, parse, endPause } = withClock()
  const largest = (key: string) => parse(key, 0, undefined, MAX_WAITING_OF_KEY_BYTES)
  const waiting = [largest('0')]
  await t.rejects(parse('0'), { code: 'overloaded' }, 'of one phone')
  const phones = MAX_WAITING_LARGE_BYTES / MAX_WAITING_OF_KEY_BYTES
  for (let nth = 1; nth < phones; nth += 1) waiting.push(largest(`${nth}`))
  await t.rejects(parse('more'), { code: 'overloaded' }, 'of all phones')
  await endPause()
  t.same(done, ['0'])
  waiting.push(largest('0'))
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
  const body = { sizeBytes: LARGE_BODY_BYTES + 1, key: 'bad', isOver: () => false }
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
