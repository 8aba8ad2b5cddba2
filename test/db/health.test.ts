/**
 * When an outage of the database begins and ends, as far as calls tell: one line for each, whatever still works meanwhile.
 * Which connections a check of the server closes, and what the next process reads of it.
 */
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { DatabaseHealth } from '../../src/db/health/health.ts'
import { readSeen, SEEN_FILE, writeSeen } from '../../src/db/health/seen-file.ts'
import { createServerWatch } from '../../src/db/health/server-watch.ts'
import { troubleOf } from '../../src/db/health/trouble.ts'
import type { ServerClient } from '../../src/db/postgres/server-client.ts'
import { tempDirectory } from '../helpers/directory.ts'

const full = Object.assign(new Error('No space left on device'), { code: '53100' })
const many = Object.assign(new Error('too many clients already'), { code: '53300' })
const lost = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })

let nowMs = 1_000
let lines: unknown[] = []
let health = fresh()

function fresh(): DatabaseHealth {
  return new DatabaseHealth(
    (line) => lines.push(line),
    () => nowMs,
  )
}

t.beforeEach(() => {
  lines = []
  health = fresh()
})

const failed = (what: string, error: Error, isWrite = false) =>
  health.observe({ kind: 'failed', what, error, isWrite, connectedAtMs: undefined })
const worked = (what: string, startedAtMs = nowMs, connectedAtMs = 0, isWrite = false) =>
  health.observe({ kind: 'worked', what, startedAtMs, connectedAtMs, isWrite })
const begin = (error: Error, statement: string | null = null) => ({
  event: 'db.unavailable',
  fields: { error: error.message, cause: troubleOf(error), statement },
})
const end = (downMs: number) => ({ event: 'db.recovered', fields: { down_ms: downMs } })

t.test('a server that is not reached is back once new work succeeds', async (t) => {
  failed('read', lost)
  worked('insert', nowMs + 199)
  const reading = begin(lost, 'read')
  t.same(lines, [reading], 'what was begun so soon may have met a server that is about to die')
  nowMs += 250
  worked('insert')
  t.same(lines.splice(0), [reading, end(250)])

  failed('connect', lost)
  nowMs += 5_000
  worked('read')
  t.same(lines, [begin(lost)], 'a connection of before says nothing of those that cannot be made')
  worked('read', nowMs, nowMs - 1)
  t.same(lines.splice(0), [begin(lost), end(5_000)], 'one that was made since does')
  failed('connect', lost)
  nowMs += 10_001
  worked('read')
  t.same(lines.splice(0), [begin(lost), end(10_001)], 'nobody wanted one: it is over as well')
  failed('connect', lost)
  nowMs += 100
  const madeAtMs = nowMs
  nowMs += 100
  failed('read', lost)
  nowMs += 200
  worked('insert', nowMs, madeAtMs)
  t.same(lines.splice(0), [begin(lost), end(400)], 'whatever else has failed since')
})

t.test(
  'a lost connection is over once no other was lost for a second, or a new one works',
  async (t) => {
    failed('lost connection', lost)
    nowMs += 999
    worked('read')
    t.same(lines, [begin(lost)], 'where one was lost the others may be next')
    worked('read', nowMs, nowMs - 1)
    t.same(lines.splice(0), [begin(lost), end(999)])
    failed('lost connection', lost)
    nowMs += 1_000
    worked('read')
    t.same(lines.splice(0), [begin(lost), end(1_000)], 'they were not')
    const addresses = ['::1', '127.0.0.1'].map((host) => new Error(`connect ECONNREFUSED ${host}`))
    const refused = Object.assign(new AggregateError(addresses), { code: 'ECONNREFUSED' })
    failed('read', refused)
    t.equal(health.trouble, 'refused')
    nowMs += 200
    worked('read')
    t.equal(health.trouble, undefined)
    const error = 'connect ECONNREFUSED ::1, connect ECONNREFUSED 127.0.0.1'
    t.match(lines.splice(0), [{ fields: { error, cause: 'refused' } }, end(200)], 'at each address')
  },
)

t.test('a start that fails is one outage, whatever its errors, until it succeeds', async (t) => {
  health.report(undefined)
  t.same(lines, [], 'it succeeds at once')
  health.report(full)
  health.report(new Error('no such database'))
  t.same(lines, [begin(full)])
  nowMs += 300
  health.report(undefined)
  t.same(lines.splice(0), [begin(full), end(300)])
})

t.test('connections from before an outage may end after it', async (t) => {
  const cut = new Error('Connection terminated unexpectedly')
  const ends = (connectedAtMs: number, error: Error = cut, what = 'lost connection') =>
    health.observe({ kind: 'failed', what, error, isWrite: false, connectedAtMs })
  const recover = () => {
    ends(0)
    nowMs += 1_000
    worked('read', nowMs, nowMs - 1)
    t.same(lines.splice(0), [begin(cut), end(1_000)])
  }
  recover()
  const endedAtMs = nowMs
  ends(endedAtMs)
  ends(0, cut, 'insert')
  nowMs += 8_999
  ends(0)
  t.same(lines, [], 'a proxy was late to cut them')
  ends(endedAtMs + 1)
  t.same(lines.splice(0), [begin(cut)], 'one from after it')
  health = fresh()
  recover()
  nowMs += 9_000
  ends(0)
  t.same(lines.splice(0), [begin(cut)], 'so late it is a new outage')
  health = fresh()
  recover()
  ends(0, new Error('Query read timeout'), 'insert')
  t.match(lines.splice(0), [{ event: 'db.unavailable', fields: { cause: 'silent' } }])
  health = fresh()
  recover()
  failed('connect', lost)
  t.same(lines.splice(0), [begin(lost)], 'an attempt to connect fails now')
})

t.test('what fails for one kind of work ends when that kind works', async (t) => {
  failed('insert', full)
  nowMs += 1_000
  worked('read')
  failed('read', lost)
  nowMs += 1_000
  worked('read')
  const inserting = begin(full, 'insert')
  t.same(lines, [inserting], 'reading works all the time, or again, and says nothing of the disk')
  worked('insert')
  t.same(lines.splice(0), [inserting, end(2_000)])

  failed('connect', many)
  nowMs += 1_000
  worked('read')
  t.same(lines, [begin(many)], 'on a connection from before')
  worked('read', nowMs, nowMs - 10)
  t.same(lines.splice(0), [begin(many), end(1_000)], 'on a new one')

  failed('rare', full)
  nowMs += 60_000
  worked('insert')
  t.same(lines, [begin(full, 'rare')])
  nowMs += 1
  worked('insert')
  t.same(
    lines.splice(0),
    [begin(full, 'rare'), end(60_001)],
    'what is not tried again is forgotten',
  )
})

t.test('a write without response and a read that failed end one after the other', async (t) => {
  failed('list', full)
  failed('insert', lost, true)
  nowMs += 1_000
  worked('list')
  t.equal(health.needsWrite, true)
  worked('insert', nowMs, 0, true)
  t.same(lines, [begin(full, 'list')], 'the write is done, the list not yet')
  t.equal(health.needsWrite, false)
  worked('list')
  t.same(lines, [begin(full, 'list'), end(1_000)])
})

t.test('a write that took too long ends with a write', async (t) => {
  const slow = new Error('Query read timeout')
  failed('insert', slow, true)
  t.equal(health.needsWrite, true)
  nowMs += 1_000
  worked('insert')
  failed('read', slow)
  nowMs += 1_000
  worked('read')
  t.same(
    lines,
    [begin(slow, 'insert')],
    'reads, and writes that changed nothing, wait for no standby',
  )
  worked('insert', nowMs, 0, true)
  t.same(lines.splice(0), [begin(slow, 'insert'), end(2_000)])
  t.equal(health.needsWrite, false)
  failed('insert', slow, true)
  nowMs += 60_000
  worked('insert')
  t.same(lines, [begin(slow, 'insert')])
  nowMs += 1
  worked('insert')
  t.same(lines.splice(0), [begin(slow, 'insert'), end(60_001)], 'nobody has written since')
  failed('read', slow)
  nowMs += 200
  worked('read')
  t.same(lines.splice(0), [begin(slow, 'read'), end(200)], 'where no write failed a read will do')
})

/** Whether a check over `fresh` closes `open`. */
async function isClosed(open: object, fresh: object): Promise<boolean> {
  const standbys = { names: '', senders: 0, attached: 0, mayRead: true, role: 'fleetloop' }
  const client = { ...fresh, query: async () => ({ rows: [standbys] }) }
  const closed: boolean[] = []
  const deps = {
    dialer: { dial: async () => client, hangUp: async () => {} },
    history: { confirm: () => {} },
    keep: async () => {},
    drop: (isOld: (client: ServerClient) => boolean) => closed.push(isOld(open as ServerClient)),
    nowMs: () => nowMs,
  }
  await createServerWatch(deps as never).check()
  return closed.includes(true)
}

t.test('a check closes connections to a server that a better one has replaced', async (t) => {
  const at = (systemId: string, timeline: number) => ({
    position: { systemId, timeline, lsn: '0/1' },
  })
  const bad = { rewound: 'it has lost a part of its log' }
  for (const [open, fresh, closes, what] of [
    [at('a', 1), at('a', 1), false, 'the same server'],
    [at('a', 1), at('a', 2), true, 'a former primary'],
    [at('a', 1), { ...at('a', 2), ...bad }, true, 'a former primary, and its successor is behind'],
    [at('a', 2), at('a', 1), false, 'the newer primary'],
    [at('a', 1), { ...at('a', 1), ...bad }, false, 'the new connection is the worse one'],
    [at('a', 1), at('b', 1), true, 'another cluster'],
    [at('a', 1), { ...at('b', 2), ...bad }, false, 'another cluster that is behind'],
    [{ ...at('a', 1), ...bad }, at('a', 1), true, 'a server that lost data'],
    [{ ...at('a', 1), ...bad }, { ...at('a', 1), ...bad }, false, 'both lost data'],
    [bad, at('a', 1), false, 'unknown position'],
    [{ ...at('a', 1), ...bad }, {}, false, 'unknown position of the new connection'],
  ] as const) {
    t.equal(await isClosed(open, fresh), closes, what)
  }
})

t.test('the next process reads the server as it was last stored', async (t) => {
  const folder = join(tempDirectory(t), 'data')
  const path = join(folder, SEEN_FILE)
  t.equal(await readSeen(path), undefined)
  const first = { systemId: '7713260900917559113', timeline: 1, lsn: '16/B374D848' }
  const second = { ...first, timeline: 2, hasLost: true } as const
  for (const seen of [first, second]) {
    await writeSeen(path, seen)
    t.strictSame(await readSeen(path), seen)
  }
  t.same(readdirSync(folder), [SEEN_FILE])
  mkdirSync(`${path}.new`)
  await t.rejects(writeSeen(path, first), { code: 'EISDIR' }, 'it cannot be written')
  t.strictSame(await readSeen(path), second, 'the last one stays')
})
