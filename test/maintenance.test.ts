/** Background work ends when it is told to, and says when it does not get on. */
import t from 'tap'
import { AppError } from '../src/core/errors.ts'
import { createMaintenance, type MaintenanceDeps } from '../src/maintenance.ts'
import type { Line } from '../src/telemetry/events.ts'

const EXPIRED = { requestId: 'r', deviceId: 'd', alias: 'a', action: 'ping', admin: 'x' }

function deps(queue: Partial<MaintenanceDeps['queue']>, lines: Line[] = []): MaintenanceDeps {
  return {
    partitions: { maintain: async () => ({ created: [], dropped: [], failed: [] }) },
    queue: {
      countWaiting: async () => 0,
      expire: async () => [],
      ...queue,
    },
    prunes: [],
    log: { write: (line) => lines.push(line) },
    isDatabaseDown: () => false,
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
    }),
  )
  maintenance.start()
  await begun
  await maintenance.stop()
  const after = batches
  await new Promise(setImmediate)
  t.equal(batches, after, 'nothing runs any more')
})

t.test('a task that keeps failing is told once, and again after it got on', async (t) => {
  const lines: Line[] = []
  const busy = new AppError('overloaded', 'Too many requests wait for the database.')
  const errors = [busy, new Error('first'), new Error('second'), undefined, new Error('third')]
  let turns = 0
  const done = new Promise<void>((resolve) => {
    const countWaiting = async () => {
      const error = errors[turns]
      turns += 1
      if (turns > errors.length) resolve()
      if (error !== undefined) throw error
      return 0
    }
    const maintenance = createMaintenance(deps({ countWaiting }, lines))
    maintenance.start()
    t.teardown(() => maintenance.stop())
  })
  await done
  t.same(lines, [
    { event: 'db.unavailable', fields: { error: 'maintenance count: first', cause: 'other' } },
    { event: 'db.unavailable', fields: { error: 'maintenance count: third', cause: 'other' } },
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
