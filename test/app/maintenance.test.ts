/** Background work stops on request, before the service does, and reports when it makes no progress. */
import t, { type Test } from 'tap'
import { type LifecycleDeps, stop } from '../../src/app/lifecycle.ts'
import { backgroundFailures } from '../../src/app/parts/background-failures.ts'
import { createMaintenance, type MaintenanceDeps } from '../../src/app/parts/maintenance.ts'
import { AppError } from '../../src/domain/errors.ts'
import { withFailedCall } from '../../src/domain/failed-call.ts'
import type { Line } from '../../src/telemetry/log/log.ts'
import { until } from '../../testkit/until.ts'

const EXPIRED = { requestId: 'r', deviceId: 'd', alias: 'a', action: 'ping', admin: 'x' }

function deps(outbox: Partial<MaintenanceDeps['outbox']>): MaintenanceDeps {
  return {
    partitions: { maintain: async () => ({ created: [], dropped: [], failed: [] }) },
    sweepOffline: async () => 0,
    outbox: {
      countWaiting: async () => 0,
      expire: async () => [],
      hasMoreExpired: () => false,
      ...outbox,
    },
    prunes: [],
    log: { write: () => {} },
    reportFailure: () => {},
    nowMs: () => 0,
    probe: async () => {},
    readBuilds: async () => {},
    watch: { check: async () => {}, stop: () => {} },
    commandChanged: () => {},
    sweepMs: 1,
  }
}

/** The first turn of each task comes at once, however long its interval is. */
function hurry(t: Test): void {
  const later = globalThis.setTimeout
  const passed = new Set<number>()
  const hurried = (run: () => void, ms: number) => {
    const isHurried = ms >= 1_000 && !passed.has(ms)
    passed.add(ms)
    return later(run, isHurried ? 1 : ms)
  }
  globalThis.setTimeout = Object.assign(hurried, later)
  t.teardown(() => {
    globalThis.setTimeout = later
  })
}

/** Each task, with `work` as what it does. */
const TASKS: Readonly<Record<string, (work: () => Promise<void>) => MaintenanceDeps>> = {
  'a sweep': (work) => deps({ expire: () => work().then(() => []) }),
  'a count': (work) => deps({ countWaiting: () => work().then(() => 0) }),
  'a probe': (work) => ({ ...deps({}), probe: work }),
  'work on partitions'(work) {
    const { partitions } = deps({})
    return { ...deps({}), partitions: { maintain: () => work().then(partitions.maintain) } }
  },
  'a prune'(work) {
    return { ...deps({}), prunes: [() => work().then(() => ({ count: 0, last: null }))] }
  },
}

for (const [task, depsOf] of Object.entries(TASKS)) {
  t.test(`stop() waits for ${task} that is under way`, async (t) => {
    hurry(t)
    let hasBegun = false
    let end = () => {}
    const maintenance = createMaintenance(
      depsOf(() => {
        hasBegun = true
        return new Promise((resolve) => {
          end = resolve
        })
      }),
    )
    maintenance.start()
    t.teardown(() => maintenance.stop())
    await until(() => hasBegun)
    let isStopped = false
    const stopped = maintenance.stop().then(() => {
      isStopped = true
    })
    await new Promise(setImmediate)
    t.equal(isStopped, false)
    end()
    await stopped
  })
}

const ENDED_TOGETHER = ['heartbeats', 'pushes', 'maintenance', 'releases']

for (const slowest of ENDED_TOGETHER) {
  t.test(`the service ends step by step, and waits for its ${slowest}`, async (t) => {
    const steps: string[] = []
    const part = (name: string) => async () => {
      steps.push(`${name} …`)
      for (let turns = name === slowest ? 5 : 1; turns > 0; turns -= 1) {
        await new Promise(setImmediate)
      }
      steps.push(name)
    }
    let requests = 1
    const service = {
      config: { shutdownDrainMs: 0, shutdownGraceMs: 600_000 },
      state: { instanceId: null, isPrepared: true },
      closing: new AbortController(),
      listener: {
        server: {
          ...{ on: () => {}, off: () => {} },
          close: (closed: () => void) => closed(),
          closeIdleConnections: () => steps.push('requests …'),
          closeAllConnections: () => steps.push('requests'),
        },
        openExchanges: () => Math.max(0, requests--),
      },
      heartbeats: { close: part('heartbeats') },
      sender: { dispatcher: { close: part('pushes') } },
      maintenance: { stop: part('maintenance') },
      jobReleases: { stop: part('releases') },
      closeRest: part('rest'),
      flushLog: () => steps.push('held back lines'),
      logLine: ({ event }: Line) => steps.push(event),
    } as unknown as LifecycleDeps // the parts of it that an end touches
    await stop(service, 'test', new AbortController().signal)
    t.same(steps.splice(0, steps.indexOf('heartbeats …')), ['requests …', 'requests'])
    t.same(
      steps.splice(0, ENDED_TOGETHER.length),
      ENDED_TOGETHER.map((name) => `${name} …`),
      'begun together',
    )
    const ended = steps.splice(0, ENDED_TOGETHER.length)
    t.same(ended.toSorted(), ENDED_TOGETHER.toSorted())
    t.equal(ended.at(-1), slowest)
    t.same(steps, ['rest …', 'rest', 'held back lines', 'service.stop'])
  })
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
    const tellFailure: MaintenanceDeps['reportFailure'] = (task, error) => {
      told.push([task, error])
      if (told.length === 2) resolve()
    }
    const maintenance = createMaintenance({ ...deps({ countWaiting }), reportFailure: tellFailure })
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
  hurry(t)
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
