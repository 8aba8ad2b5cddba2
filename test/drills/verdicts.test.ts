/** The judges of the drills, given evidence of a broken promise: none of them calls it held. */
import t from 'tap'
import { figureOf } from '../../drills/attacks/criterion.ts'
import { HONEST } from '../../drills/attacks/honest-kinds.ts'
import { LinesAccount } from '../../drills/attacks/lines-account.ts'
import { linesCriterion } from '../../drills/attacks/load-row.ts'
import { checkCommands, type Evidence } from '../../drills/commands/check.ts'
import { createCommandsJournal } from '../../drills/commands/journal.ts'
import type { Figure } from '../../drills/drill.ts'
import { answersFigure } from '../../drills/fleet/simulated-fleet.ts'
import { episodeFigure, timed } from '../../drills/outages/run.ts'
import { nothingMissing } from '../../drills/shared/acknowledged.ts'
import { ResponseWatch } from '../../drills/shared/response-watch.ts'
import { connect, createDatabase } from '../helpers/database.ts'

const BEGIN = '{"ts":"2026-11-26T09:00:00.000Z","event":"db.unavailable","error":"gone"}'
const END = '{"ts":"2026-11-26T09:00:01.000Z","event":"db.recovered","down_ms":1000}'

t.test('an episode is one beginning and one end', async (t) => {
  t.ok(episodeFigure([BEGIN, END], 1).isHeld)
  for (const lines of [[], [BEGIN], [END], [BEGIN, BEGIN, END], [BEGIN, END, BEGIN, END]]) {
    t.notOk(episodeFigure(lines, 1).isHeld, `${lines.length} lines`)
  }
})

t.test('late is a matter of the machine, never is not', async (t) => {
  t.match(timed('back', 2_000), { isHeld: true })
  t.match(timed('back', 2_001), { isHeld: false, isTimed: true })
  t.match(timed('back', undefined), { isHeld: false, isTimed: false })
})

t.test('answers that come late, say 401 or not when to come back are seen', async (t) => {
  const watch = new ResponseWatch()
  const response = { status: 200, retryAfterS: null, latencyMs: 1, body: Buffer.from('{}') }
  watch.take(response)
  watch.end()
  watch.take({ ...response, latencyMs: 2_001 })
  watch.take({ ...response, status: 503 })
  watch.take({ ...response, status: 401, body: Buffer.from('{"code":"token_unknown"}') })
  watch.end()
  t.same(watch.sum, {
    byCode: { '200': 2, '503': 1, '401 token_unknown': 1 },
    slowestMs: 2_001,
    late: 1,
    mute: 1,
  })
  const judged = (responses: object) =>
    answersFigure(Object({ answers: responses }), '', / 503 /).isHeld
  t.ok(judged({ 'GET /a 200': 1, 'GET /a 503 overloaded': 1 }))
  for (const odd of ['401 token_unknown', '429 rate_limited', 'no answer', '502', '503']) {
    t.notOk(judged({ 'GET /a 200': 1, [`GET /a ${odd}`]: 1 }), odd)
  }
})

t.test(
  'what was acknowledged and is not there is missing; nothing at all proves nothing',
  async (t) => {
    const db = await connect(t, await createDatabase(t))
    const nobody: ReadonlySet<string> = new Set()
    const none = { heartbeats: nobody, commands: nobody, results: nobody }
    t.notOk((await nothingMissing(db, none)).isHeld)
    for (const kind of ['heartbeats', 'commands', 'results', 'enrollmentTokens'] as const) {
      const { isHeld, measured } = await nothingMissing(db, { ...none, [kind]: new Set(['lost']) })
      t.notOk(isHeld)
      t.match(measured, `1 of 1 ${kind} (lost)`)
    }
  },
)

/** One command, pushed once, run once, reported, stored; every figure of it holds. */
function whole() {
  const journal = createCommandsJournal()
  journal.accepted.add('c1')
  journal.heartbeats.add('h1')
  const watched = journal.watch(async () => ({ status: 200, headers: {}, bytes: Buffer.alloc(0) }))
  void watched.run?.({ request_id: 'c1', action: 'ring' }, Object(undefined))
  watched.listener?.onResult({ requestId: 'c1', httpRequestId: 'r1', isDuplicate: false })
  const command = {
    requestId: 'c1',
    state: 'completed',
    attempt: 1,
    pushAttempts: 1,
    deliveries: 0,
    hasResult: true,
    isLate: false,
  } as const
  return { journal, watched, command }
}

function push(attempt: number, atS: number): Evidence['pushes'][number] {
  const data = { request_id: 'c1', attempt: `${attempt}`, ts: new Date(1_000 * atS).toISOString() }
  return Object({ data, mode: 'ok' })
}

function judge(
  { journal, command }: ReturnType<typeof whole>,
  change: { command?: object; isGone?: true; pushes?: Evidence['pushes']; stage?: string } = {},
): readonly Figure[] {
  const row = { ...command, ...change.command }
  return checkCommands({
    journal,
    pushes: change.pushes ?? [push(1, 0)],
    stored: {
      commands: new Map(change.isGone ? [] : [['c1', row]]),
      endings: (_, stage) => Number(stage === 'result' && row.hasResult),
      recorded: (_, attempt) =>
        attempt === 1
          ? Object({ stage: change.stage ?? 'push_sent', fcmStatus: 'UNAVAILABLE' })
          : undefined,
      heartbeats: new Set(['h1']),
    },
    rules: { retryBaseMs: 10_000, retryAfterMs: {}, unrecordedMs: 30_000 },
    mostLostAttempts: 0,
  })
}

t.test('a command that is lost, open, run twice or sent wrongly is a promise missed', async (t) => {
  const isHeld = (figures: readonly Figure[]) => figures.every((figure) => figure.isHeld)
  t.ok(isHeld(judge(whole())), 'as it should be')
  t.notOk(isHeld(judge(whole(), { isGone: true })), 'lost')
  t.notOk(isHeld(judge(whole(), { command: { state: 'open', hasResult: false } })), 'open')
  t.notOk(isHeld(judge(whole(), { command: { hasResult: false } })), 'its result is lost')
  const twice = whole()
  void twice.watched.run?.({ request_id: 'c1', action: 'ring' }, Object(undefined))
  t.notOk(isHeld(judge(twice)), 'run twice')
  const again = { command: { attempt: 2, pushAttempts: 2 } }
  t.notOk(isHeld(judge(whole(), { ...again, pushes: [push(1, 0), push(1, 60)] })), 'same attempt')
  const soon = { ...again, pushes: [push(1, 0), push(2, 9)] }
  t.notOk(isHeld(judge(whole(), { ...soon, stage: 'push_failed' })), 'too soon')
  t.notOk(isHeld(judge(whole(), { ...again, pushes: [push(1, 0), push(2, 60)] })), 'sent before')
  const unheard = whole()
  unheard.journal.heartbeats.clear()
  t.notOk(isHeld(judge(unheard)), 'no heartbeat was acknowledged')
})

t.test('an attack that cost one honest line, or one that is not anonymous, is seen', async (t) => {
  const end = (id: string, more: object = {}) =>
    JSON.stringify({ event: 'a', request_id: id, status_code: 404, device_id: null, ...more })
  const drops = (anonymous: number) =>
    JSON.stringify({ event: 'log.dropped', status_code: null, dropped: 3, anonymous })
  const judged = (...lines: readonly string[]) => {
    const account = new LinesAccount()
    for (const line of lines) account.take(line)
    const honest = { answered: [`${HONEST.heartbeats.id}0`, `${HONEST.admin.id}0`] }
    return linesCriterion(Object({ lines: account }), Object({ honest })).isHeld
  }
  const [beat, admin] = [end(`${HONEST.heartbeats.id}0`), end(`${HONEST.admin.id}0`)]
  t.ok(judged(beat, admin, end('stranger'), drops(3)))
  t.notOk(judged(beat), 'a line is missing')
  t.notOk(judged(beat, admin, drops(2)), 'one was not anonymous')
  t.notOk(judged(beat, admin, '{"half'), 'no JSON')
})

t.test(
  'lines of strangers are counted by second and code, those of known ones are not',
  async (t) => {
    const account = new LinesAccount()
    const line = (second: number, more: object = {}) =>
      account.take(
        JSON.stringify({
          ts: `2026-11-28T09:00:0${second}.000Z`,
          ...{ event: 'http.request', request_id: 'x', status_code: 404, device_id: null },
          ...{ reason: 'not_found', ...more },
        }),
      )
    line(1)
    line(1, { suppressed: 40 })
    line(1, { reason: 'bad_path' })
    line(2)
    line(2, { device_id: 'd' })
    line(2, { admin: 'a' })
    line(2, { status_code: 200 })
    t.match(account.anonymous, { lines: 4, suppressed: 40, mostPerS: 2 })
  },
)

t.test(
  'a row is held where all of it is; only figures in time and memory are excused',
  async (t) => {
    const held = { bar: 'a', measured: 'b', isHeld: true }
    const missed = { ...held, isHeld: false }
    t.match(figureOf('row', [held]), { isHeld: true })
    t.match(figureOf('row', [held, { ...missed, isTimed: true }]), { isHeld: false, isTimed: true })
    t.match(figureOf('row', [missed, { ...missed, isTimed: true }]), {
      isHeld: false,
      isTimed: false,
    })
  },
)
