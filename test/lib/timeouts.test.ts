/** Callers join a run that is under way and begin a new one after it; waits leave no timers or listeners behind. */
import t from 'tap'
import { Notifier } from '../../src/lib/notifier.ts'
import { singleFlight } from '../../src/lib/timeouts.ts'

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
