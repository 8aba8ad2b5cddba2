/** Compares the log of a simulation with what the simulation knows: one line per response, with its event. */
import type { Summary } from '../../sim/simulate/summary.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import type { Figure } from '../drill.ts'
import { LinesOracle } from '../fuzz/lines.ts'

/** The event that ends a success; other responses end in `http.request`. */
const EVENT_OF_ROUTE: Readonly<Record<string, string>> = {
  '/v1/register': 'register.success',
  '/v1/action-result': 'action_result.ingest',
  '/v1/devices/{device_id}/ack': 'action_result.ingest',
  '/v1/apk/download-latest': 'apk.download',
}
/** Requested by others. */
const NOT_SIMULATED = ['/metrics', '/readyz', '/admin/apk/builds/{build_id}']
/** These lines share one request_id. */
const THREAD = ['dispatch.request', 'dispatch.sent', 'action_result.ingest'] as const

type Counts = ReadonlyMap<string, number>

export class FleetLines {
  readonly #shape = new LinesOracle(ROUTE_LIST.map(({ path }) => path))
  readonly #ends = new Map<string, number>()
  readonly #threads = {
    'dispatch.request': new Set(),
    'dispatch.sent': new Set(),
    'action_result.ingest': new Set(),
  }
  readonly scrapesMs: number[] = []
  #enrollmentDownloads = 0

  take(text: string): void {
    this.#shape.line(text)
    const { event, route, status_code: status, ...line } = JSON.parse(text)
    for (const step of THREAD) if (event === step) this.#threads[step].add(line.request_id)
    if (event === 'apk.download' && line.source === 'enrollment') this.#enrollmentDownloads += 1
    if (event === 'metrics.scrape') this.scrapesMs.push(line.latency_ms)
    if (status === null || NOT_SIMULATED.includes(route)) return
    add(this.#ends, `${event} ${route} ${status}`, 1)
  }

  /**
   * Call it once the service has ended. `sent`: request_ids that FCM accepted, `ended`: those of completed commands.
   */
  figures(
    summary: Summary,
    sent: ReadonlySet<string>,
    completed: ReadonlySet<string>,
  ): readonly Figure[] {
    const expected = endsOf(summary)
    const wrong = [...new Set([...expected.keys(), ...this.#ends.keys()])].filter(
      (key) => expected.get(key) !== this.#ends.get(key),
    )
    const [request, push, result] = THREAD.map((step) => this.#threads[step])
    const broken = [
      ...[...completed].filter((id) => !request?.has(id) || !result?.has(id)),
      ...[...sent].filter((id) => !push?.has(id)),
    ]
    const whole = [...sent].filter((id) => completed.has(id)).length
    const { enrollment } = summary.downloads
    return [
      {
        promise: 'every line is one of the contract, with its keys in order; no 500, none dropped',
        measured: `${this.#shape.ended} requests ended; ${this.#shape.faults[0] ?? 'no fault'}`,
        isHeld: this.#shape.faults.length === 0,
      },
      {
        promise: 'each answer has one line, with the event of its route',
        measured: `${expected.size} kinds of answers; ${wrong.map((key) => `${key}: ${this.#ends.get(key) ?? 0} lines for ${expected.get(key) ?? 0} answers`).join('; ') || 'none differs'}`,
        isHeld: wrong.length === 0 && expected.size > 0,
      },
      {
        promise: `one request_id runs through ${THREAD.join(', ')}`,
        measured: `${whole} commands with all three, ${broken.length} with a gap ${broken.slice(0, 3).join()}`,
        isHeld: broken.length === 0 && whole > 0,
      },
      {
        promise: 'each download with an enrollment token has its line',
        measured: `${this.#enrollmentDownloads} lines for ${enrollment} downloads`,
        isHeld: this.#enrollmentDownloads === enrollment && enrollment > 0,
      },
    ]
  }
}

/** The final lines of a simulation without refusals, by event, route and status. */
function endsOf({ answers: responses, heartbeats }: Summary): Counts {
  const ends = new Map<string, number>()
  for (const [name, count] of Object.entries(responses)) {
    const [, route = '', status = ''] = name.split(' ')
    if (route !== '/v1/heartbeat') {
      add(ends, `${EVENT_OF_ROUTE[route] ?? 'http.request'} ${route} ${status}`, count)
    }
  }
  add(ends, 'heartbeat.ingest /v1/heartbeat 200', heartbeats.stored)
  add(ends, 'heartbeat.dedup /v1/heartbeat 200', heartbeats.deduped)
  return ends
}

function add(counts: Map<string, number>, key: string, count: number): void {
  if (count > 0) counts.set(key, (counts.get(key) ?? 0) + count)
}
