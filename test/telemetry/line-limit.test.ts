/** Of one kind only so many lines a second are written, and the others are counted. */
import t from 'tap'
import { LineLimit } from '../../src/telemetry/log/line-limit.ts'

/** A limit with a clock of its own; `said` is what was written, name by name with what it counts. */
function limited() {
  let nowMs = 5
  const said: string[] = []
  const timers: { readonly dueMs: number; readonly run: () => void }[] = []
  const limit = new LineLimit(
    () => nowMs,
    (run, ms) => timers.push({ dueMs: nowMs + ms, run }),
  )
  let asked = 0
  return {
    limit,
    said,
    timers,
    nowMs: () => nowMs,
    ask(kind: string, mostPerS: number, times: number) {
      for (let n = 0; n < times; n++) {
        const name = `${kind}${++asked}`
        limit.write(kind, mostPerS, (suppressed) => said.push(`${name}+${suppressed}`))
      }
    },
    /** The event loop is busy for so long. */
    block(ms: number) {
      nowMs += ms
    },
    /** Passes so many milliseconds, with every timer that falls due. */
    pass(ms: number) {
      const untilMs = nowMs + ms
      for (;;) {
        const next = timers.findIndex(({ dueMs }) => dueMs <= untilMs)
        const [timer] = next === -1 ? [] : timers.splice(next, 1)
        if (timer === undefined) break
        nowMs = Math.max(nowMs, timer.dueMs)
        timer.run()
      }
      nowMs = untilMs
    },
  }
}

t.test('the next line of a kind counts those that had none', async (t) => {
  const { said, ask, block, pass } = limited()
  ask('a', 2, 5)
  ask('b', 2, 1)
  t.same(said.splice(0), ['a1+0', 'a2+0', 'b6+0'], 'each kind has its own room')
  block(999)
  ask('a', 2, 1)
  t.same(said, [])
  block(1)
  ask('a', 2, 3)
  t.same(said.splice(0), ['a8+4', 'a9+0'], 'a second later')
  pass(999)
  t.same(said, [], 'the timer comes too late, and waits for its turn')
  pass(1)
  t.same(said, ['a10+0'])
})

t.test('where none follows, the newest that had none is written', async (t) => {
  const { said, limit, timers, ask, pass } = limited()
  ask('a', 2, 5)
  said.length = 0
  t.equal(timers.length, 1, 'one timer for all of a kind')
  pass(999)
  t.same(said, [])
  pass(1)
  t.same(said.splice(0), ['a5+2'])
  pass(5000)
  t.same([said, timers], [[], []], 'a quiet kind costs no timer')

  ask('a', 2, 4)
  t.same(said.splice(0), ['a6+0', 'a7+0'])
  limit.flush()
  limit.flush()
  t.same(said.splice(0), ['a9+1'], 'at the end at once')
  pass(5000)
  t.same(said, [])
})

t.test('within any second there are never more, and each is counted once', async (t) => {
  const { limit, nowMs, pass } = limited()
  let seed = 7
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
  const writtenAtMs: number[] = []
  let asked = 0
  let counted = 0
  for (let step = 0; step < 20_000; step++) {
    for (let n = random(4); n > 0; n--) {
      asked++
      limit.write('a', 10, (suppressed) => {
        counted += 1 + suppressed
        writtenAtMs.push(nowMs())
      })
    }
    pass(random(random(20) === 0 ? 1500 : 30))
  }
  pass(1000)
  t.equal(counted, asked)
  const gaps = writtenAtMs.slice(10).map((atMs, n) => atMs - (writtenAtMs[n] ?? 0))
  t.equal(Math.min(...gaps), 1000)
})
