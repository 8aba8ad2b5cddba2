import t from 'tap'
import { parseRetryAfterMs, retryDelayMs } from '../../src/domain/delivery/backoff.ts'

const least = () => 0
const most = () => 1 - Number.EPSILON
const plan = { baseMs: 10_000, maxMs: 3_600_000, retryAfterMs: null }

t.test('the wait lies between base and base doubled per failure, at most the cap', async (t) => {
  const cases: [failures: number, longestMs: number][] = [
    [1, 20_000],
    [2, 40_000],
    [3, 80_000],
    [8, 2_560_000],
    [9, 3_600_000],
    [5_000, 3_600_000],
  ]
  for (const [failures, longestMs] of cases) {
    t.equal(retryDelayMs({ ...plan, failures, random: least }), 10_000, `${failures}, least`)
    t.equal(retryDelayMs({ ...plan, failures, random: most }), longestMs, `${failures}, most`)
  }
})

t.test('a cap below the base holds', async (t) => {
  t.equal(retryDelayMs({ ...plan, maxMs: 500, failures: 1, random: most }), 500)
})

t.test('Retry-After wins, is never undercut and stretched by a tenth at most', async (t) => {
  for (const retryAfterMs of [1, 1_000, 60_000, 7_200_000]) {
    const wish = { ...plan, failures: 4, retryAfterMs }
    t.equal(retryDelayMs({ ...wish, random: least }), retryAfterMs)
    const longest = retryDelayMs({ ...wish, random: most })
    t.ok(longest >= retryAfterMs && longest <= Math.ceil(retryAfterMs * 1.1), `${longest}`)
  }
})

t.test('Retry-After is read as seconds or as a date, bounded, else as nothing', async (t) => {
  const now = new Date('2026-03-04T05:06:07.000Z')
  const cases: [header: string | null, waitMs: number | null][] = [
    ['7', 7_000],
    [' 120 ', 120_000],
    ['Wed, 04 Mar 2026 05:07:07 GMT', 60_000],
    ['999999999', 86_400_000],
    ['Thu, 04 Mar 2027 05:07:07 GMT', 86_400_000],
    ['0', null],
    ['Wed, 04 Mar 2026 05:06:07 GMT', null],
    ['Wed, 04 Mar 2020 05:06:07 GMT', null],
    ['-5', null],
    ['1.5', null],
    ['1e3', null],
    ['soon', null],
    ['Wed, 99 Foo 2026 05:07:07 GMT', null],
    ['9'.repeat(400), null],
    ['', null],
    [null, null],
  ]
  for (const [header, waitMs] of cases) t.equal(parseRetryAfterMs(header, now), waitMs, `${header}`)
})
