/** A phone's commands: each message is checked, each request_id runs once, a repeat reports the stored result again. */
import { verifyCommandData } from '../src/core/command-message.ts'

export type CommandData = Readonly<Record<string, string>>

export interface RunResult {
  readonly outcome: 'success' | 'failure' | 'timeout' | 'rejected'
  readonly message: string
}

/** What the phone does when it is told to; what it throws is a failure. */
export type Run = (command: CommandData) => RunResult | Promise<RunResult>

/** What became of one message. */
export type Taken =
  | { readonly kind: 'ran' | 'repeated'; readonly result: RunResult; readonly finishedAtMs: number }
  | { readonly kind: 'running' | 'expired' }
  | { readonly kind: 'refused'; readonly reason: 'other_device' | 'hmac' | 'hmac2' }

interface Done {
  readonly result: RunResult
  readonly finishedAtMs: number
}

/** Results remembered; a command lives for a week at most, so older ones never come again. */
const MAX_REMEMBERED = 1_000

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
