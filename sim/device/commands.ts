/** A phone's commands: checks each message, runs each request_id once, reports the stored result on a repeat. */
import { asJsonObject } from '../../testkit/http/client.ts'
import { verifyCommandData } from './verify-command.ts'

export type CommandData = Readonly<Record<string, string>>

/** When and how often a phone reports a result; `afterMs` is the delay. */
export type Report = 'now' | 'twice' | 'never' | { readonly afterMs: number }

export interface RunResult {
  readonly outcome: 'success' | 'failure' | 'timeout' | 'rejected'
  readonly message: string
  /** Default `now`. Applies to the command, also when its message is repeated. */
  readonly report?: Report
}

/** Executes the command; an exception is a failure. */
export type Run = (command: CommandData) => RunResult | Promise<RunResult>

/** The outcome of one message. */
export type Taken =
  | { readonly kind: 'ran' | 'repeated'; readonly result: RunResult; readonly finishedAtMs: number }
  | { readonly kind: 'running' | 'expired' }
  | { readonly kind: 'refused'; readonly reason: 'other_device' | 'hmac' | 'hmac2' }

interface Done {
  readonly result: RunResult
  readonly finishedAtMs: number
}

/** Bound on remembered results; a command lives for a week, so older ones never return. */
const MAX_REMEMBERED = 1_000

/** When the phone sends the result, epoch milliseconds; empty: never. */
export function reportTimesMs(taken: Taken): readonly number[] {
  if (!('result' in taken)) return []
  const { kind, result, finishedAtMs } = taken
  const { report = 'now' } = result
  if (report === 'never') return []
  if (typeof report === 'object') return kind === 'ran' ? [finishedAtMs + report.afterMs] : []
  return report === 'twice' && kind === 'ran' ? [finishedAtMs, finishedAtMs] : [finishedAtMs]
}

/** Keeps only strings; others cannot be signed, and fail the signature check. */
export function asCommandData(value: unknown): CommandData {
  const entries = Object.entries(asJsonObject(value) ?? {})
  return Object.fromEntries(
    entries.flatMap(([name, text]) => (typeof text === 'string' ? [[name, text]] : [])),
  )
}

export class DeviceCommands {
  readonly #run: Run
  readonly #nowMs: () => number
  readonly #known = new Map<string, Done | 'running'>()

  constructor(run: Run, nowMs: () => number) {
    this.#run = run
    this.#nowMs = nowMs
  }

  async take(
    data: CommandData,
    identity: { readonly deviceId: string; readonly hmacKey: string },
  ): Promise<Taken> {
    const { request_id: requestId = '', device_id: deviceId, expires_at: expiresAt = '' } = data
    const holds = verifyCommandData(data, identity.hmacKey)
    if (deviceId !== identity.deviceId) return { kind: 'refused', reason: 'other_device' }
    if (!holds.hmac) return { kind: 'refused', reason: 'hmac' }
    if (!holds.hmac2) return { kind: 'refused', reason: 'hmac2' }

    const known = this.#known.get(requestId)
    if (known === 'running') return { kind: 'running' }
    if (known !== undefined) return { kind: 'repeated', ...known }
    if (this.#nowMs() >= Date.parse(expiresAt)) return { kind: 'expired' }

    this.#remember(requestId, 'running')
    const result = await this.#runSafely(data)
    const done = { result, finishedAtMs: this.#nowMs() }
    this.#remember(requestId, done)
    return { kind: 'ran', ...done }
  }

  async #runSafely(data: CommandData): Promise<RunResult> {
    try {
      return await this.#run(data)
    } catch (error) {
      return { outcome: 'failure', message: String(error) }
    }
  }

  #remember(requestId: string, what: Done | 'running'): void {
    this.#known.set(requestId, what)
    const [oldest] = this.#known.keys()
    if (this.#known.size > MAX_REMEMBERED && oldest !== undefined) this.#known.delete(oldest)
  }
}
