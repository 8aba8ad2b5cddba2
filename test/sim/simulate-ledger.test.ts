/** What a simulation calls lost, run twice and settled. */
import t from 'tap'
import { CommandLedger, type FinalState } from '../../sim/simulate/ledger.ts'

const ALIVE = new Set(['D01'])

function ledgerAt(nowMs = 0) {
  const clock = { nowMs }
  const ledger = new CommandLedger(() => clock.nowMs)
  return { clock, ledger }
}

t.test('lost is what was acknowledged and is not there at the end', (t) => {
  const cases: readonly (readonly [
    what: string,
    given: {
      readonly isAccepted: boolean
      readonly hasTold: boolean
      readonly final: FinalState
      readonly hasResult: boolean
    },
    lost: number,
  ])[] = [
    ['done', { isAccepted: true, hasTold: true, final: 'completed', hasResult: true }, 0],
    ['late', { isAccepted: true, hasTold: true, final: 'expired', hasResult: true }, 0],
    ['waiting', { isAccepted: true, hasTold: false, final: 'open', hasResult: false }, 0],
    ['no result', { isAccepted: true, hasTold: true, final: 'open', hasResult: false }, 1],
    ['forgotten', { isAccepted: true, hasTold: false, final: 'unknown', hasResult: false }, 1],
    ['never made', { isAccepted: false, hasTold: false, final: 'unknown', hasResult: false }, 0],
    ['not read', { isAccepted: true, hasTold: true, final: 'unreadable', hasResult: false }, 0],
  ]
  for (const [what, { isAccepted, hasTold, final, hasResult }, lost] of cases) {
    const { ledger } = ledgerAt()
    ledger.created('c1', 'D01', 'now')
    if (isAccepted) ledger.accepted('c1', 60_000)
    if (hasTold) ledger.resultAcknowledged('c1')
    ledger.ended('c1', final, hasResult)
    t.equal(ledger.summary().lost, lost, what)
  }
  t.end()
})

t.test('each run of a command is counted', (t) => {
  const { ledger } = ledgerAt()
  ledger.created('c1', 'D01', 'twice')
  ledger.created('c2', 'D01', 'now')
  t.equal(ledger.runs('c1'), 'twice', 'the phone learns how to report it')
  ledger.runs('c2')
  t.match(ledger.summary(), { run: 2, run_twice: 0 })
  ledger.runs('c2')
  t.match(ledger.summary(), { run: 2, run_twice: 1 })
  t.end()
})

t.test('completion counts from the call to the first acknowledged result, by channel', (t) => {
  const { clock, ledger } = ledgerAt()
  for (const id of ['pushed', 'fetched']) ledger.created(id, 'D01', 'now')
  ledger.created('late', 'D01', { afterMs: 1_000 })
  ledger.ranBy('pushed', 'push')
  ledger.ranBy('fetched', 'mailbox')
  ledger.ranBy('late', 'push')
  clock.nowMs = 20
  for (const id of ['pushed', 'late']) ledger.resultAcknowledged(id)
  clock.nowMs = 5_000
  for (const id of ['pushed', 'fetched']) ledger.resultAcknowledged(id)
  const { push, mailbox } = ledger.summary().completion_ms
  t.match([push.count, Math.round(push.max)], [1, 20])
  t.equal(mailbox.count, 1)
  t.end()
})

t.test('a command is settled once it ran, was refused, has expired, or its phone is gone', (t) => {
  const settle: Readonly<Record<string, (ledger: CommandLedger) => void>> = {
    ran: (ledger) => ledger.ranBy('c1', 'push'),
    refused: (ledger) => ledger.refused('c1'),
    'turned down': (ledger) => ledger.turnedDown('c1'),
  }
  for (const [how, act] of Object.entries(settle)) {
    const { ledger } = ledgerAt()
    ledger.created('c1', 'D01', 'now')
    ledger.accepted('c1', 60_000)
    t.equal(ledger.isSettled(ALIVE), false)
    act(ledger)
    t.equal(ledger.isSettled(ALIVE), true, how)
  }
  const { clock, ledger } = ledgerAt()
  ledger.created('c1', 'D01', 'now')
  t.equal(ledger.isSettled(new Set()), true, 'its phone is wiped')
  ledger.created('c2', 'D02', 'now')
  ledger.unanswered('c2')
  t.equal(ledger.isSettled(new Set(['D02'])), true, 'no try was answered')
  t.match(ledger.summary(), { created: 2, accepted: 0, unanswered: 1 })
  ledger.accepted('c1', 60_000)
  clock.nowMs = 60_000
  t.equal(ledger.isSettled(ALIVE), true, 'expired')
  t.end()
})
