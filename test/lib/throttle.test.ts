/** A burst runs a few callbacks after each pause, in order, and always ends. */
import t from 'tap'
import { Throttle } from '../../src/lib/throttle.ts'

/** A throttle, and a function that ends its pause; that returns false if there is none. */
function withPauses(max?: number) {
  const pauses: (() => void)[] = []
  const queue = new Throttle((run) => pauses.push(run), { max })
  const endPause = () => {
    const run = pauses.shift()
    run?.()
    return run !== undefined
  }
  return { queue, endPause }
}

t.test('two pieces behind each pause, first come first, and none before', async (t) => {
  const { queue, endPause } = withPauses()
  const done: number[] = []
  for (let nth = 1; nth <= 5; nth += 1) queue.add(() => done.push(nth))
  t.same(done, [])
  for (const expected of [
    [1, 2],
    [1, 2, 3, 4],
    [1, 2, 3, 4, 5],
  ]) {
    t.ok(endPause())
    t.same(done, expected)
  }
  t.notOk(endPause(), 'who has nothing to do asks for no pause')
})

t.test('a flood takes more behind a pause, so that it ends', async (t) => {
  const { queue, endPause } = withPauses()
  let done = 0
  for (let nth = 0; nth < 2_500; nth += 1) queue.add(() => (done += 1))
  const perPause: number[] = []
  for (let before = 0; endPause(); before = done) perPause.push(done - before)
  t.equal(done, 2_500)
  t.equal(perPause[0], 4)
  t.equal(perPause.at(-2), 2)
})

t.test('beyond its bound the first one runs at once, and the order stays', async (t) => {
  const { queue, endPause } = withPauses(3)
  const done: number[] = []
  for (let nth = 1; nth <= 5; nth += 1) queue.add(() => done.push(nth))
  t.same(done, [1, 2])
  t.equal(queue.waiting, 3)
  t.ok(endPause())
  t.same(done, [1, 2, 3, 4])
  t.ok(endPause())
  t.same(done, [1, 2, 3, 4, 5])
  t.notOk(endPause(), 'one pause at a time')
})

t.test('of two, one is that of the key whose turn it is, the other one the oldest', async (t) => {
  const { queue, endPause } = withPauses()
  const done: string[] = []
  for (const name of ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1']) {
    queue.add(() => done.push(name), undefined, name[0])
  }
  const perPause: string[] = []
  while (endPause()) perPause.push(done.splice(0).join(' '))
  t.same(perPause, ['a1 a2', 'b1 a3', 'c1 a4', 'b2'])
  t.equal(queue.waiting, 0)
})

t.test('beyond the bound the oldest runs at once, whatever its key', async (t) => {
  const { queue } = withPauses(4)
  const done: string[] = []
  const add = (name: string, key: string) => queue.add(() => done.push(name), undefined, key)
  for (const name of ['busy 1', 'busy 2', 'busy 3']) add(name, 'busy')
  for (let nth = 1; nth <= 4; nth += 1) add(`new ${nth}`, `${nth}`)
  t.same(done, ['busy 1', 'busy 2', 'busy 3'])
})

t.test('new keys without end do not delay a busy one', async (t) => {
  const { queue, endPause } = withPauses()
  const done: string[] = []
  let keys = 0
  const addNew = () => {
    keys += 1
    queue.add(() => done.push('new'), undefined, `${keys}`)
  }
  for (let nth = 0; nth < 10; nth += 1) addNew()
  const BUSY = 5
  for (let nth = 1; nth <= BUSY; nth += 1)
    queue.add(() => done.push(`busy ${nth}`), undefined, 'busy')
  const before = 10 + BUSY - 1
  while (done.length < 2 * (before + 1)) {
    t.ok(endPause())
    addNew()
    addNew()
  }
  t.ok(done.includes(`busy ${BUSY}`), `after ${done.length}`)
})

t.test('work that is over runs, and takes no turn', async (t) => {
  const { queue, endPause } = withPauses()
  const over = new Set<number>()
  const done: number[] = []
  for (let nth = 1; nth <= 9; nth += 1) {
    queue.add(
      () => done.push(nth),
      () => over.has(nth),
    )
  }
  for (const nth of [1, 2, 3, 5, 7, 8]) over.add(nth)
  t.ok(endPause())
  t.same(done, [1, 2, 3, 4, 5, 6])
  t.ok(endPause())
  t.same(done, [1, 2, 3, 4, 5, 6, 7, 8, 9])
  t.notOk(endPause())
})

t.test('work that adds work, and work after a rest, with real pauses', async (t) => {
  const queue = new Throttle()
  const done: string[] = []
  await new Promise<void>((resolve) => {
    queue.add(() => {
      done.push('first')
      queue.add(() => {
        done.push('second')
        resolve()
      })
    })
    t.same(done, [])
  })
  await new Promise<void>((resolve) => queue.add(resolve))
  t.same(done, ['first', 'second'])
})
