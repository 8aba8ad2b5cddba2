import t from 'tap'
import { AppError } from '../../src/domain/errors.ts'
import { type FailureKind, GroupCommit } from '../../src/lib/group-commit.ts'

const MESSAGES = { full: 'full', late: 'late', unsure: 'unsure' }

/** The test ends each statement itself. */
function rig(options: { maxInFlight?: number } = {}) {
  const flights: { items: readonly string[]; land(): void; fail(error: Error): void }[] = []
  const clock = { nowMs: 0 }
  const group = new GroupCommit<string, string>({
    messages: MESSAGES,
    flush: (items) =>
      new Promise((resolve, reject) => {
        const land = () => resolve(items.map((item) => `${item}!`))
        flights.push({ items, land, fail: reject })
      }),
    failureKind: (error) => (error as KindError).kind ?? 'unavailable',
    keyOf: (item) => item.charCodeAt(0),
    maxGroup: 4,
    statement: 'store',
    maxQueuedGroups: 2,
    maxInFlight: 1,
    deadlineMs: 1_800,
    nowMs: () => clock.nowMs,
    ...options,
  })
  return {
    group,
    flights,
    clock,
    addAll: (items: string) => [...items].map((item) => group.add(item)),
  }
}

/** Writes at once and fails for bad items, which are upper-case letters. */
function writing(kind: FailureKind, failures = Number.POSITIVE_INFINITY) {
  const written: string[] = []
  let failuresLeft = failures
  const group = new GroupCommit<string, string>({
    messages: MESSAGES,
    async flush(items) {
      written.push(items.join(''))
      if (items.some((item) => /[A-Z]/.test(item)) && failuresLeft > 0) {
        failuresLeft -= 1
        throw new KindError(kind)
      }
      return items.map((item) => `${item}!`)
    },
    failureKind: (error) => (error as KindError).kind,
    keyOf: (item) => item.charCodeAt(0),
    maxGroup: 8,
    statement: 'store',
    maxQueuedGroups: 2,
    maxInFlight: 1,
    deadlineMs: 1_800,
    nowMs: () => 0,
  })
  const addAll = (items: string) => Promise.allSettled([...items].map((item) => group.add(item)))
  return { group, written, addAll }
}

class KindError extends Error {
  override readonly name = 'KindError'
  readonly kind: FailureKind

  constructor(kind: FailureKind) {
    super(kind)
    this.kind = kind
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const settled = (results: readonly PromiseSettledResult<string>[]) =>
  results.map((result) => (result.status === 'fulfilled' ? result.value : 'refused'))

t.test('items of one turn share a statement, and each gets its own answer', async (t) => {
  const { flights, addAll } = rig()
  const responses = addAll('abc')
  t.equal(flights.length, 0, 'one turn later')
  await turn()
  t.same(flights[0]?.items, ['a', 'b', 'c'])
  flights[0]?.land()
  t.same(await Promise.all(responses), ['a!', 'b!', 'c!'])
})

t.test('items that arrive while a statement is in flight form the next group', async (t) => {
  const { group, flights, addAll } = rig()
  const first = addAll('a')
  await turn()
  const next = [...addAll('b'), ...addAll('cd')]
  await turn()
  t.equal(flights.length, 1)
  t.equal(group.queued, 3)
  flights[0]?.land()
  t.same(await Promise.all(first), ['a!'])
  await turn()
  t.same(flights[1]?.items, ['b', 'c', 'd'])
  flights[1]?.land()
  t.same(await Promise.all(next), ['b!', 'c!', 'd!'])
})

t.test('a group has a bound, and so many statements are in flight', async (t) => {
  const { flights, addAll } = rig({ maxInFlight: 2 })
  const responses = addAll('abcdefgh')
  await turn()
  await turn()
  t.same(
    flights.map(({ items }) => items.join('')),
    ['abcd', 'efgh'],
  )
  const waiting = addAll('i')
  await turn()
  t.equal(flights.length, 2)
  flights[1]?.land()
  t.same(await Promise.all(responses.slice(4)), ['e!', 'f!', 'g!', 'h!'], 'the first still flies')
  await turn()
  t.same(flights[2]?.items, ['i'])
  flights[0]?.land()
  flights[2]?.land()
  await Promise.all([...responses, ...waiting])
})

t.test(
  'no key is twice in a group: the second waits for the next one, the others go on',
  async (t) => {
    const { flights, addAll } = rig({ maxInFlight: 2 })
    const responses = addAll('abacab')
    await turn()
    await turn()
    t.same(
      flights.map(({ items }) => items.join('')),
      ['abc', 'ab'],
      'in the order of arrival, and a group may be in flight beside another',
    )
    flights[1]?.land()
    await turn()
    await turn()
    t.same(flights[2]?.items, ['a'])
    flights[0]?.land()
    flights[2]?.land()
    t.same(await Promise.all(responses), ['a!', 'b!', 'a!', 'c!', 'a!', 'b!'])
  },
)

t.test('a full queue refuses at once and keeps what it has', async (t) => {
  const { group, flights, addAll } = rig()
  const first = addAll('a')
  await turn()
  const queued = addAll('bcdefghi')
  t.equal(group.queued, 8)
  await t.rejects(group.add('z'), { name: 'AppError', code: 'overloaded' })
  for (let i = 0; i < 3; i += 1) {
    flights[i]?.land()
    await turn()
    await turn()
  }
  t.equal((await Promise.all([...first, ...queued])).length, 9)
  t.same(
    flights.map(({ items }) => items.join('')),
    ['a', 'bcde', 'fghi'],
  )
})

t.test('a poisoned group is split until the bad items stand alone', async (t) => {
  const { addAll, written } = writing('poison')
  t.same(settled(await addAll('abCdefGh')), [
    'a!',
    'b!',
    'refused',
    'd!',
    'e!',
    'f!',
    'refused',
    'h!',
  ])
  t.same(written, ['abCdefGh', 'abCd', 'ab', 'Cd', 'C', 'd', 'efGh', 'ef', 'Gh', 'G', 'h'])
})

t.test('a bad item alone gets the error of its own statement', async (t) => {
  const { group } = writing('poison')
  await t.rejects(group.add('X'), { name: 'KindError' })
  t.equal(await group.add('y'), 'y!', 'and the next goes on')
})

t.test('what may pass is tried again, at most twice', async (t) => {
  const passing = writing('retry', 2)
  t.same(settled(await passing.addAll('aB')), ['a!', 'B!'])
  t.same(passing.written, ['aB', 'aB', 'aB'])
  const lasting = writing('retry')
  t.same(settled(await lasting.addAll('aB')), ['refused', 'refused'])
  t.same(lasting.written, ['aB', 'aB', 'aB'])
})

t.test('without a database all of the group is refused, and nothing is tried again', async (t) => {
  const { addAll, written } = writing('unavailable')
  t.same(settled(await addAll('aBc')), ['refused', 'refused', 'refused'])
  t.same(written, ['aBc'])
})

t.test('answers that are not one for each item are no answers', async (t) => {
  const group = new GroupCommit<string, string>({
    messages: MESSAGES,
    flush: async () => [],
    statement: 'store',
    failureKind: () => 'unavailable',
    keyOf: (item) => item.charCodeAt(0),
    maxGroup: 4,
    maxQueuedGroups: 1,
    maxInFlight: 1,
    deadlineMs: 1_800,
    nowMs: () => 0,
  })
  await t.rejects(group.add('a'), { message: 'flush answered another number of items' })
})

t.test('past its deadline a queued item is taken out and was never written', async (t) => {
  const { group, flights, clock } = rig()
  const first = group.add('a')
  await turn()
  clock.nowMs = 1_000
  const late = group.add('b')
  clock.nowMs = 2_000
  const punctual = group.add('c')
  await t.rejects(first, { code: 'db_unavailable' }, 'in flight: the outcome is unknown')
  clock.nowMs = 2_800
  await t.rejects(late, { code: 'overloaded' })
  flights[0]?.land()
  await turn()
  await turn()
  t.same(flights[1]?.items, ['c'])
  flights[1]?.land()
  t.equal(await punctual, 'c!')
})

t.test('a queue that is past its deadline is taken out as a whole', async (t) => {
  const { group, flights, clock, addAll } = rig()
  const first = group.add('a')
  await turn()
  const late = addAll('bcd').map((added) => added.catch((error: unknown) => error))
  t.equal(group.queued, 3)
  clock.nowMs = 1_800
  await t.rejects(first, { code: 'db_unavailable' })
  t.equal(group.queued, 0, 'in the same sweep')
  flights[0]?.land()
  await turn()
  await turn()
  t.equal(flights.length, 1, 'nothing of it was written')
  flights[1]?.land()
  t.match(await Promise.all(late), [
    { code: 'overloaded' },
    { code: 'overloaded' },
    { code: 'overloaded' },
  ])
})

t.test('an answer that comes after the deadline changes nothing', async (t) => {
  const { group, flights, clock } = rig()
  const late = group.add('a')
  await turn()
  clock.nowMs = 1_800
  const error = await late.catch((reason: unknown) => reason)
  t.match(error, { code: 'db_unavailable' })
  flights[0]?.land()
  await turn()
  await t.rejects(late, error as Error)
})

t.test('close refuses what comes and waits for all that came', async (t) => {
  const { group, flights, addAll } = rig()
  const responses = addAll('abcde')
  await turn()
  let isClosed = false
  const closed = group.close().then(() => {
    isClosed = true
  })
  await t.rejects(
    group.add('z'),
    new AppError('shutting_down', 'This server is stopping. Try again.'),
  )
  flights[0]?.land()
  await turn()
  await turn()
  t.equal(isClosed, false)
  flights[1]?.land()
  t.same(await Promise.all(responses), ['a!', 'b!', 'c!', 'd!', 'e!'])
  await closed
  await group.close()
})

t.test('an idle group closes at once', async () => {
  await rig().group.close()
})
