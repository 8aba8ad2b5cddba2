/** Waiting together: what is under way is joined, what has ended is begun anew. */
import t from 'tap'
import { joined } from '../../src/core/wait.ts'

t.test('work is never under way twice, and whoever joins has its outcome', async (t) => {
  const ends: ((outcome: number | Error) => void)[] = []
  const work = joined(
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
