import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { Trickle } from '../../src/core/trickle.ts'

t.test('a piece in each turn, first come first, and none in the turn that adds', async (t) => {
  const queue = new Trickle()
  const done: number[] = []
  for (let nth = 1; nth <= 3; nth += 1) queue.add(() => done.push(nth))
  t.same(done, [])
  for (const expected of [[1], [1, 2], [1, 2, 3]]) {
    await nextTurn()
    t.same(done, expected)
  }
})

t.test('a flood takes more of a turn, so that it ends', async (t) => {
  const queue = new Trickle()
  let done = 0
  for (let nth = 0; nth < 2_500; nth += 1) queue.add(() => (done += 1))
  const perTurn: number[] = []
  while (done < 2_500) {
    const before = done
    await nextTurn()
    perTurn.push(done - before)
  }
  t.equal(perTurn[0], 3)
  t.equal(perTurn.at(-1), 1)
  t.ok(perTurn.length < 2_000)
})

t.test('work that adds work, and work after a rest', async (t) => {
  const queue = new Trickle()
  const done: string[] = []
  queue.add(() => {
    done.push('first')
    queue.add(() => done.push('second'))
  })
  await nextTurn()
  await nextTurn()
  t.same(done, ['first', 'second'])
  queue.add(() => done.push('third'))
  await nextTurn()
  t.same(done, ['first', 'second', 'third'])
})
