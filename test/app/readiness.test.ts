/** When a replica says that it is ready: what it knows, what it asks, and what it takes for an answer. */
import t from 'tap'
import { type DatabaseView, unready } from '../../src/app/readiness.ts'
import { AppError } from '../../src/domain/errors.ts'

const prepared = { instanceId: null, isPrepared: true }
const open = new AbortController().signal
const refused = () => Promise.reject(new AppError('overloaded', 'test'))

async function told(database: Partial<DatabaseView>, state = prepared, closing = open) {
  let pings = 0
  const view: DatabaseView = {
    trouble: () => undefined,
    isBusy: () => false,
    msSinceResponse: () => Number.POSITIVE_INFINITY,
    ...database,
    ping() {
      pings += 1
      return database.ping?.() ?? Promise.resolve()
    },
  }
  return { reasons: Object.keys(await unready(state, closing, view)), pings }
}

t.test('a young answer need not be asked for again', async (t) => {
  t.same(await told({ msSinceResponse: () => 100 }), { reasons: [], pings: 0 })
  t.same(await told({ msSinceResponse: () => 101 }), { reasons: [], pings: 1 })
  t.same(await told({ msSinceResponse: () => 0, trouble: () => 'lost' }), { reasons: [], pings: 1 })
  const isBusy = () => true
  t.same(await told({ isBusy, msSinceResponse: () => 700 }), { reasons: [], pings: 0 })
  t.same(await told({ isBusy, msSinceResponse: () => 701 }), { reasons: [], pings: 1 })
})

t.test('a ping that fails proves nothing against an answer to somebody else', async (t) => {
  t.same(await told({ ping: refused }), { reasons: ['database'], pings: 1 })
  // The only query that waited for a connection has given up.
  t.same(await told({ ping: refused, msSinceResponse: () => 700 }), { reasons: [], pings: 1 })
  t.same(await told({ ping: refused, msSinceResponse: () => 701 }), {
    reasons: ['database'],
    pings: 1,
  })
  let ago = 5_000
  const ping = () => {
    ago = 0
    return refused()
  }
  const answeredMsAgo = () => ago
  t.same(await told({ ping, msSinceResponse: answeredMsAgo }), { reasons: [], pings: 1 })
  ago = 5_000
  t.same(await told({ ping, msSinceResponse: answeredMsAgo, trouble: () => 'lost' }), {
    reasons: ['database'],
    pings: 1,
  })
})

t.test('a ping that never ends is not waited for', async (t) => {
  const ping = () => new Promise(() => {})
  for (const trouble of [undefined, 'lost'] as const) {
    t.same(await told({ ping, trouble: () => trouble }), { reasons: ['database'], pings: 1 })
  }
})

t.test(
  'before it is prepared, and once it stops, it is not, whatever the database says',
  async (t) => {
    const fresh = { msSinceResponse: () => 0 }
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
