/** Callers join a run that is under way and begin a new one after it; waits leave no timers or listeners behind. */
import t from 'tap'
import { AppError } from '../../src/domain/errors.ts'
import { Notifier, readUntil } from '../../src/lib/notifier.ts'
import { joinReads, singleFlight } from '../../src/lib/timeouts.ts'
import { until } from '../../testkit/until.ts'

t.test('work is never under way twice, and whoever joins has its outcome', async (t) => {
  const ends: ((outcome: number | Error) => void)[] = []
  const work = singleFlight(
    () =>
      new Promise<number>((resolve, reject) =>
        ends.push((outcome) => (outcome instanceof Error ? reject(outcome) : resolve(outcome))),
      ),
  )
  const first = [work(), work(), work()]
  t.equal(ends.length, 1)
  ends[0]?.(1)
  t.same(await Promise.all(first), [1, 1, 1])
  const second = [work(), work()]
  t.equal(ends.length, 2)
  ends[1]?.(new Error('no'))
  for (const each of second) await t.rejects(each, { message: 'no' })
  const third = work()
  ends[2]?.(3)
  t.equal(await third, 3)
})

t.test('nothing is kept of a key that nobody waits for, however the wait ended', async (t) => {
  const signal = new Notifier()
  const leaving = new AbortController()
  const { signal: never } = new AbortController()
  const LONG_MS = 3_600_000
  const waits = [
    signal.wait('told', LONG_MS, never),
    signal.wait('told', LONG_MS, never),
    signal.wait('late', 1, never),
    signal.wait('left', LONG_MS, leaving.signal),
  ]
  t.equal(signal.size, 3)
  signal.notify('told')
  signal.notify('nobody')
  leaving.abort()
  await Promise.all(waits)
  t.equal(signal.size, 0)
  await signal.wait('gone', LONG_MS, leaving.signal)
  t.equal(signal.size, 0)
})

t.test('many who read the same share the next read, which begins after they ask', async (t) => {
  const ends: ((outcome: number | Error) => void)[] = []
  const keys: string[] = []
  const read = joinReads(
    (key) =>
      new Promise<number>((resolve, reject) => {
        keys.push(key)
        ends.push((outcome) => (outcome instanceof Error ? reject(outcome) : resolve(outcome)))
      }),
  )
  const first = [read('a'), read('a'), read('b')]
  await null
  t.same(keys, ['a', 'b'])
  const later = [read('a'), read('a')]
  await null
  t.equal(keys.length, 2, 'what has begun may not see what they want to see')
  ends[0]?.(1)
  ends[1]?.(2)
  t.same(await Promise.all(first), [1, 1, 2])
  await until(() => keys.length === 3)
  const last = read('a')
  ends[2]?.(new Error('no'))
  for (const each of [...later, last]) await t.rejects(each, { message: 'no' })
  t.same(keys, ['a', 'b', 'a'], 'the next one would fail, too')
  const again = read('a')
  await null
  ends[3]?.(4)
  t.equal(await again, 4)
})

t.test('who waits is not refused for a poll that is, and polls at the same moments', async (t) => {
  const overloaded = new AppError('overloaded', 'Too many.')
  const found: (number | Error)[] = [1, overloaded, overloaded, 2]
  const waitedMs: number[] = []
  let nowMs = 1_100.5
  let earlyMs = 0
  const wait = (known?: number) =>
    readUntil({
      async read() {
        const value = found.shift() ?? new Error('read too often')
        if (value instanceof Error) throw value
        return value
      },
      ...(known !== undefined && { known }),
      isDone: (value) => value === 2,
      waitMs: 900,
      async waitForChange(ms) {
        waitedMs.push(ms)
        nowMs += ms - earlyMs
      },
      tryAcquire: () => () => {},
      signal: new AbortController().signal,
      nowMs: () => nowMs,
    })
  t.equal(await wait(), 2)
  t.same(waitedMs, [152, 250, 250])
  found.push(overloaded, 2)
  t.equal(await wait(1), 2, 'nor for the first one, if something is known')
  found.push(1, overloaded, overloaded, overloaded, overloaded, overloaded)
  t.equal(await wait(), 1, 'at the end it has what was read last')
  found.splice(0, Infinity, overloaded)
  await t.rejects(wait(), { code: 'overloaded' })
  found.push(1, new Error('away'))
  await t.rejects(wait(), { message: 'away' })
  nowMs = 2_100
  earlyMs = 1.9
  found.push(1, 1, 2)
  waitedMs.splice(0)
  t.equal(await wait(), 2)
  t.same(waitedMs, [152, 252], 'nor polls twice because a timer ends early')
})
