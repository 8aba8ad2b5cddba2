/** The log of a service under attack: which lines of honest clients were written, and how many strangers caused. */
import { HONEST } from './honest-kinds.ts'

export interface AnonymousLines {
  readonly lines: number
  readonly bytes: number
  /** Requests without a line of their own, counted in the `suppressed` of other lines. */
  readonly suppressed: number
  /** Maximum per second of the log, event and reason. */
  readonly mostPerS: number
}

const NO_CODE = 'none'
const HONEST_ID = new RegExp(
  `^(${Object.values(HONEST)
    .map(({ id }) => id)
    .join('|')})`,
)

export class LinesAccount {
  /** Sums of the `log.dropped` lines. */
  readonly dropped = { all: 0, anonymous: 0 }
  readonly faults: string[] = []
  /** Honest requests that have their line. */
  readonly ids = new Set<string>()
  readonly #perS = new Map<string, number>()
  readonly #events = new Map<string, number>()
  #anonymous: AnonymousLines = { lines: 0, bytes: 0, suppressed: 0, mostPerS: 0 }

  readonly take = (text: string): void => {
    const line = parsed(text)
    if (line === undefined) {
      this.faults.push(text.slice(0, 200))
      return
    }
    const event = String(line['event'])
    this.#events.set(event, (this.#events.get(event) ?? 0) + 1)
    if (event === 'log.dropped') this.#takeDrops(line)
    else if (typeof line['status_code'] === 'number')
      this.#takeEnd(line, Buffer.byteLength(text) + 1)
  }

  get anonymous(): AnonymousLines {
    return this.#anonymous
  }

  events(name: string): number {
    return this.#events.get(name) ?? 0
  }

  #takeDrops(line: Readonly<Record<string, unknown>>): void {
    this.dropped.all += Number(line['dropped'])
    this.dropped.anonymous += Number(line['anonymous'] ?? 0)
  }

  #takeEnd(line: Readonly<Record<string, unknown>>, bytes: number): void {
    const id = String(line['request_id'])
    if (HONEST_ID.test(id)) {
      this.ids.add(id)
      return
    }
    const status = Number(line['status_code'])
    const isKnown = ['device_id', 'admin', 'token_id'].some((name) => (line[name] ?? null) !== null)
    if (status < 400 || status >= 500 || isKnown) return
    const suppressed = Number(line['suppressed'] ?? 0)
    const key = `${String(line['ts']).slice(0, 19)} ${line['event']} ${line['reason'] ?? NO_CODE}`
    const inThatS = (this.#perS.get(key) ?? 0) + 1
    // Earlier seconds are no longer needed.
    if (inThatS === 1 && this.#perS.size > 1_000) this.#perS.clear()
    this.#perS.set(key, inThatS)
    this.#anonymous = {
      lines: this.#anonymous.lines + 1,
      bytes: this.#anonymous.bytes + bytes,
      suppressed: this.#anonymous.suppressed + suppressed,
      mostPerS: Math.max(this.#anonymous.mostPerS, inThatS),
    }
  }
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
