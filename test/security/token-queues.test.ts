/** The queues in which requests of one token wait: their order and their bounds. test/security/token-turns.test.ts has the service. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { lookUpForLines } from '../../src/db/enrollment/line-lookups.ts'
import type { Database } from '../../src/db/postgres/pool.ts'
import { createTokenTurns } from '../../src/security/token-turns.ts'
import { until } from '../../testkit/until.ts'

t.test(
  'for lines one statement runs at a time, then a pause, and a token waits once',
  async (t) => {
    const asked: unknown[] = []
    const ends: (() => void)[] = []
    const query: Database['query'] = ({ values }) => {
      asked.push(values?.[0])
      return new Promise((resolve) => ends.push(() => resolve({ rows: [], rowCount: 0 })))
    }
    const transaction = () => Promise.reject(new Error('takes none'))
    const lookUp = lookUpForLines({ query, transaction }, () => 0)
    const [flooding, honest] = [Buffer.alloc(32, 255), Buffer.alloc(32, 1)]
    const burst = () => Array.from({ length: 300 }, () => lookUp(flooding))
    const flood = burst()
    await setImmediate()
    t.same(asked, [flooding])
    const more = burst()
    const other = lookUp(honest)
    await setImmediate()
    t.same(asked, [flooding])
    for (const count of [2, 3]) {
      ends.shift()?.()
      const endedAtMs = performance.now()
      await until(() => asked.length === count)
      const pauseMs = performance.now() - endedAtMs
      t.ok(pauseMs >= 4, `a pause between statements: ${pauseMs} ms`)
    }
    ends.shift()?.()
    t.same(
      new Set((await Promise.all([...flood, ...more, other])).map(({ kind }) => kind)),
      new Set(['unknown']),
    )
    t.same(asked, [flooding, honest, flooding])
  },
)

t.test('turns are taken in order, and refused after a while', async (t) => {
  let nowMs = 0
  const inTurn = createTokenTurns(() => nowMs)
  const begun: number[] = []
  const ends: ((error?: Error) => void)[] = []
  const run = (nth: number, tokenHash = Buffer.alloc(32)) =>
    inTurn({ tokenHash }, () => {
      begun.push(nth)
      return new Promise<void>((resolve, reject) => {
        ends.push((error) => (error === undefined ? resolve() : reject(error)))
      })
    })
  const end = async (error?: Error) => {
    ends.shift()?.(error)
    await setImmediate()
  }
  const first = [0, 1, 2, 3].map((nth) => run(nth))
  const waiting = [4, 5, 6].map((nth) => run(nth))
  const other = run(7, Buffer.alloc(32, 1))
  t.same(begun, [0, 1, 2, 3, 7], 'another token does not wait')
  await end()
  t.same(begun, [0, 1, 2, 3, 7, 4])
  const settling = Promise.allSettled([...first.slice(0, 2), ...waiting.slice(1)])
  nowMs = 2_000
  await end(new Error('of the work'))
  t.same(begun, [0, 1, 2, 3, 7, 4])
  t.match(await settling, [
    { status: 'fulfilled' },
    { status: 'rejected', reason: { message: 'of the work' } },
    { status: 'rejected', reason: { code: 'rate_limited', retryAfterS: 1 } },
    { status: 'rejected', reason: { code: 'rate_limited' } },
  ])
  const next = run(8)
  t.same(begun, [0, 1, 2, 3, 7, 4, 8])
  const many = Array.from({ length: 256 }, (_, nth) => run(9 + nth))
  await t.rejects(run(0), { code: 'rate_limited' })
  while (ends.length > 0) await end()
  await Promise.all([...first.slice(2), waiting[0], other, next, ...many])
  t.equal(begun.length, 7 + 256)

  const tokens = [2, 3, 4, 5].map((nth) => Buffer.alloc(32, nth))
  const all = tokens.flatMap((token) => Array.from({ length: 4 + 256 }, () => run(0, token)))
  await t.rejects(run(0, Buffer.alloc(32, 2)), { code: 'rate_limited' })
  const last = Array.from({ length: 4 }, () => run(0, Buffer.alloc(32, 6)))
  await t.rejects(run(0, Buffer.alloc(32, 6)), { code: 'overloaded' })
  while (ends.length > 0) await end()
  await Promise.all([...all, ...last])
})
