/**
 * Every command of a simulation from the admin's call to its end, as the simulator saw it, compared with the service's
 * view.
 */
import type { Report } from '../device/commands.ts'
import type { Channel } from '../device/habits.ts'
import { type Latency, LatencyRecord } from './tally.ts'

/** State from GET /admin/commands/{request_id}; `unreadable`: no response, `unknown`: 404. */
export type FinalState = 'completed' | 'expired' | 'cancelled' | 'open' | 'unknown' | 'unreadable'

interface Entry {
  readonly alias: string
  readonly createdAtMs: number
  /** null: not acknowledged. */
  expiresAtMs: number | null
  isRefused: boolean
  isUnanswered: boolean
  runs: number
  /** The channel of the message that was run. */
  ranBy: Channel | null
  /** A message was rejected: expired, or with a wrong signature. */
  isTurnedDown: boolean
  report: Report
  isResultAcknowledged: boolean
  final: { readonly state: FinalState; readonly hasResult: boolean } | null
}

export interface CommandSummary {
  readonly created: number
  readonly accepted: number
  readonly refused: number
  /** No response to any try; it may exist nevertheless. */
  readonly unanswered: number
  readonly completed: number
  readonly expired: number
  readonly cancelled: number
  readonly open: number
  /** Acknowledged but unknown to the service, or its result was. */
  readonly lost: number
  /** Could not be read at the end. */
  readonly unreadable: number
  readonly run: number
  readonly run_by_push: number
  readonly run_by_mailbox: number
  /** Commands that ran more than once. */
  readonly run_twice: number
  readonly planned: { readonly [kind in 'now' | 'late' | 'twice' | 'never']: number }
  /** From the admin's call to the acknowledged result, without those that are late on purpose. */
  readonly completion_ms: { readonly push: Latency; readonly mailbox: Latency }
}

export class CommandLedger {
  readonly #nowMs: () => number
  readonly #entries = new Map<string, Entry>()
  readonly #completion = { push: new LatencyRecord(), mailbox: new LatencyRecord() }

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  get requestIds(): readonly string[] {
    return [...this.#entries.keys()]
  }

  /** Call it before sending: the result may arrive before the response. */
  created(requestId: string, alias: string, report: Report): void {
    this.#entries.set(requestId, {
      alias,
      createdAtMs: this.#nowMs(),
      expiresAtMs: null,
      isRefused: false,
      isUnanswered: false,
      runs: 0,
      ranBy: null,
      isTurnedDown: false,
      report,
      isResultAcknowledged: false,
      final: null,
    })
  }

  accepted(requestId: string, expiresAtMs: number): void {
    this.#update(requestId, { expiresAtMs })
  }

  refused(requestId: string): void {
    this.#update(requestId, { isRefused: true })
  }

  /** All tries ended without a success or a refusal. */
  unanswered(requestId: string): void {
    this.#update(requestId, { isUnanswered: true })
  }

  /** A phone starts to run it. */
  runs(requestId: string): Report {
    const entry = this.#entries.get(requestId)
    if (entry === undefined) return 'now' // another run's
    entry.runs += 1
    return entry.report
  }

  ranBy(requestId: string, ranBy: Channel): void {
    this.#update(requestId, { ranBy })
  }

  turnedDown(requestId: string): void {
    this.#update(requestId, { isTurnedDown: true })
  }

  resultAcknowledged(requestId: string): void {
    const entry = this.#entries.get(requestId)
    if (entry === undefined || entry.isResultAcknowledged) return
    entry.isResultAcknowledged = true
    if (entry.ranBy === null || typeof entry.report === 'object') return
    this.#completion[entry.ranBy].add(this.#nowMs() - entry.createdAtMs)
  }

  ended(requestId: string, state: FinalState, hasResult: boolean): void {
    this.#update(requestId, { final: { state, hasResult } })
  }

  /** Nothing more can happen to any of them but expiry. `alive`: the phones that still run commands. */
  isSettled(alive: ReadonlySet<string>): boolean {
    const nowMs = this.#nowMs()
    return [...this.#entries.values()].every(
      ({ alias, isRefused, isUnanswered, ranBy, isTurnedDown, expiresAtMs }) =>
        !alive.has(alias) ||
        isRefused ||
        isUnanswered ||
        ranBy !== null ||
        isTurnedDown ||
        (expiresAtMs ?? Infinity) <= nowMs,
    )
  }

  summary(): CommandSummary {
    const all = [...this.#entries.values()]
    const count = (fits: (entry: Entry) => boolean) => all.filter(fits).length
    const ended = (state: FinalState) => count(({ final }) => final?.state === state)
    const isAccepted = ({ expiresAtMs }: Entry) => expiresAtMs !== null
    return {
      created: all.length,
      accepted: count(isAccepted),
      refused: count(({ isRefused }) => isRefused),
      unanswered: count(({ isUnanswered }) => isUnanswered),
      completed: ended('completed'),
      expired: ended('expired'),
      cancelled: ended('cancelled'),
      open: ended('open'),
      lost: count(isLost),
      unreadable: ended('unreadable'),
      run: count(({ runs }) => runs > 0),
      run_by_push: count(({ ranBy }) => ranBy === 'push'),
      run_by_mailbox: count(({ ranBy }) => ranBy === 'mailbox'),
      run_twice: count(({ runs }) => runs > 1),
      planned: {
        now: count(({ report }) => report === 'now'),
        late: count(({ report }) => typeof report === 'object'),
        twice: count(({ report }) => report === 'twice'),
        never: count(({ report }) => report === 'never'),
      },
      completion_ms: {
        push: this.#completion.push.read(),
        mailbox: this.#completion.mailbox.read(),
      },
    }
  }

  #update(requestId: string, change: Partial<Entry>): void {
    const entry = this.#entries.get(requestId)
    if (entry !== undefined) Object.assign(entry, change)
  }
}

function isLost({ expiresAtMs, isResultAcknowledged, final }: Entry): boolean {
  if (final === null || final.state === 'unreadable') return false
  if (final.state === 'unknown') return expiresAtMs !== null
  return isResultAcknowledged && !final.hasResult
}
