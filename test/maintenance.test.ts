/** Background work ends when it is told to, and says when it does not get on. */
import t from 'tap'
import { backgroundFailures } from '../src/background-failures.ts'
import { AppError } from '../src/core/errors.ts'
import { withFailedCall } from '../src/core/failed-call.ts'
import { createMaintenance, type MaintenanceDeps } from '../src/maintenance.ts'
import type { Line } from '../src/telemetry/events.ts'
import { until } from './helpers/replicas.ts'

const EXPIRED = { requestId: 'r', deviceId: 'd', alias: 'a', action: 'ping', admin: 'x' }

function deps(queue: Partial<MaintenanceDeps['queue']>): MaintenanceDeps {
  return {
    partitions: { maintain: async () => ({ created: [], dropped: [], failed: [] }) },
    queue: {
      countWaiting: async () => 0,
      expire: async () => [],
      hasMoreExpired: () => false,
      ...queue,
    },
    prunes: [],
    log: { write: () => {} },
    tellFailure: () => {},
    nowMs: () => 0,
    probe: async () => {},
    onEnded: () => {},
    sweepMs: 1,
  }
}

t.test('stop() does not wait for a backlog', async (t) => {
  let batches = 0
  let begin = () => {}
  const begun = new Promise<void>((resolve) => {
    begin = resolve
  })
  const maintenance = createMaintenance(
    deps({
      async expire(limit) {
        batches += 1
        begin()
        await new Promise(setImmediate) // a real database lets the event loop turn
        return Array.from({ length: limit }, () => EXPIRED)
      },
      hasMoreExpired: () => true,
    }),
  )
  maintenance.start()
  await begun
  await maintenance.stop()
  const after = batches
  await new Promise(setImmediate)
  t.equal(batches, after, 'nothing runs any more')
})

t.test('a task that keeps failing is told of at once, then each minute', async (t) => {
  const lines: Line[] = []
  const log = { write: (line: Line) => lines.push(line) }
  const health = { isDown: true }
  let minute = 0
  const tell = backgroundFailures({ log, health, nowMs: () => minute * 60_000 })
  const fault = new Error('no such function')
  tell('sweep', fault)
  t.same(lines, [], 'db.unavailable has told of it')

  health.isDown = false
  const busy = new AppError('overloaded', 'Too many requests wait for the database.')
  tell('count', withFailedCall(busy, { statement: 'commands.count', cause: 'no_connection' }))
  for (minute of [0, 0.9, 1, 1.5, 3]) tell('sweep', fault)
  const bare = { error: 'no such function', cause: 'other', statement: null }
  t.same(
    lines.map(({ event, fields }) => ({ event, ...fields })),
    [
      {
        event: 'db.statement.fail',
        task: 'count',
        error: busy.message,
        cause: 'no_connection',
        statement: 'commands.count',
      },
      ...[0, 1, 3].map(() => ({ event: 'db.statement.fail', task: 'sweep', ...bare })),
    ],
  )
})

t.test('a task that fails is told of, and goes on', async (t) => {
  const told: unknown[] = []
  const countWaiting = () => Promise.reject('too slow')
  await new Promise<void>((resolve) => {
    const tellFailure: MaintenanceDeps['tellFailure'] = (task, error) => {
      told.push([task, error])
      if (told.length === 2) resolve()
    }
    const maintenance = createMaintenance({ ...deps({ countWaiting }), tellFailure })
    maintenance.start()
    t.teardown(() => maintenance.stop())
  })
  t.same(told.slice(0, 2), [
    ['count', 'too slow'],
    ['count', 'too slow'],
  ])
})

t.test('a gauge that cannot be counted stops no sweep', async (t) => {
  const countWaiting = () => Promise.reject(new Error('too slow'))
  await new Promise<void>((resolve) => {
    let sweeps = 0
    const expire = async () => {
      sweeps += 1
      if (sweeps === 3) resolve()
      return []
    }
    const maintenance = createMaintenance(deps({ countWaiting, expire }))
    maintenance.start()
    t.teardown(() => maintenance.stop())
  })
})

t.test('a gauge takes a hundredth of the time, however long counting takes', async (t) => {
  const countedAtMs: number[] = []
  const clock = { nowMs: 0 }
  const countWaiting = async () => {
    countedAtMs.push(clock.nowMs)
    clock.nowMs += 250
    if (countedAtMs.length === 2) throw new Error('too slow')
    return 7
  }
  await new Promise<void>((resolve) => {
    const nowMs = () => {
      if (countedAtMs.length === 3) resolve()
      clock.nowMs += 50
      return clock.nowMs
    }
    const maintenance = createMaintenance({ ...deps({ countWaiting }), nowMs })
    maintenance.start()
    t.teardown(() => maintenance.stop())
  })
  const [first = 0, second = 0, third = 0] = countedAtMs
  t.ok(second - first >= 25_000 && third - second >= 25_000, `${countedAtMs}`)
})

t.test('each table is pruned, batch by batch, and days are kept up', async (t) => {
  const later = globalThis.setTimeout
  const passed = new Set<number>()
  /** The first ten minutes pass at once, and so does the first hour. */
  const hurried = (run: () => void, ms: number) => {
    const isHurried = ms >= 600_000 && !passed.has(ms)
    passed.add(ms)
    return later(run, isHurried ? 1 : ms)
  }
  globalThis.setTimeout = Object.assign(hurried, later)
  t.teardown(() => {
    globalThis.setTimeout = later
  })
  const pruned: string[] = []
  let fullBatches = 2
  const prune = (table: string) => async (limit: number, from: string | null) => {
    pruned.push(`${table} from ${from}`)
    if (table !== 'long' || fullBatches === 0) return { count: limit - 1, last: 'end' }
    fullBatches -= 1
    return { count: limit, last: `batch ${fullBatches}` }
  }
  const lines: Line[] = []
  const days = ['heartbeats_20261127', 'heartbeats_20261128']
  const changes = {
    created: days,
    dropped: ['heartbeats_20261101'],
    failed: [{ partition: 'heartbeats_20261102', error: 'no' }],
  }
  const maintenance = createMaintenance({
    ...deps({}),
    log: { write: (line) => lines.push(line) },
    partitions: { maintain: async () => changes },
    prunes: ['first', 'long', 'last'].map(prune),
  })
  maintenance.start()
  t.teardown(() => maintenance.stop())
  await until(() => pruned.includes('last from null') && lines.length === 3)
  const long = ['long from null', 'long from batch 1', 'long from batch 0']
  t.same(pruned, ['first from null', ...long, 'last from null'])
  const one = { last: null, error: null }
  t.same(lines, [
    {
      event: 'partition.create',
      fields: { ...one, partition: 'heartbeats_20261127', last: 'heartbeats_20261128' },
    },
    { event: 'partition.drop', fields: { ...one, partition: 'heartbeats_20261101' } },
    { event: 'partition.fail', fields: { partition: 'heartbeats_20261102', error: 'no' } },
  ])
})
