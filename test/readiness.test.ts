/** When a replica says that it is ready: what it knows, what it asks, and what it takes for an answer. */
import t from 'tap'
import { AppError } from '../src/core/errors.ts'
import { type DatabaseView, unready } from '../src/lifecycle.ts'

const prepared = { instanceId: null, isPrepared: true }
const open = new AbortController().signal
const refused = (code: 'overloaded' | 'db_unavailable') => () =>
  Promise.reject(new AppError(code, 'test'))

async function told(database: Partial<DatabaseView>, state = prepared, closing = open) {
  let pings = 0
  const view: DatabaseView = {
    isDown: () => false,
    answeredMsAgo: () => Number.POSITIVE_INFINITY,
    ...database,
    ping() {
      pings += 1
      return database.ping?.() ?? Promise.resolve()
    },
  }
  return { reasons: Object.keys(await unready(state, closing, view)), pings }
}

t.test('an answer of the last half second need not be asked for again', async (t) => {
  t.same(await told({ answeredMsAgo: () => 500 }), { reasons: [], pings: 0 })
  t.same(await told({ answeredMsAgo: () => 501 }), { reasons: [], pings: 1 })
  t.same(await told({ answeredMsAgo: () => 0, isDown: () => true }), { reasons: [], pings: 1 })
})

t.test('busy is ready, away is not, and within an episode busy proves nothing', async (t) => {
  t.same(await told({ ping: refused('overloaded') }), { reasons: [], pings: 1 })
  t.same(await told({ ping: refused('db_unavailable') }), { reasons: ['database'], pings: 1 })
  t.same(await told({ ping: refused('overloaded'), isDown: () => true }), {
    reasons: ['database'],
    pings: 1,
  })
})

t.test(
  'before it is prepared, and once it stops, it is not, whatever the database says',
  async (t) => {
    const fresh = { answeredMsAgo: () => 0 }
    const unprepared = { instanceId: null, isPrepared: false }
    t.same(await told(fresh, unprepared), { reasons: ['database'], pings: 0 })
    const closing = new AbortController()
    const stopsMeanwhile = async () => closing.abort()
    t.same(await told({ ping: stopsMeanwhile }, prepared, closing.signal), {
      reasons: ['service'],
      pings: 1,
    })
    t.same(await told(fresh, prepared, closing.signal), { reasons: ['service'], pings: 0 })
  },
)
