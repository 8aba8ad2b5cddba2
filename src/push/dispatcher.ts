/**
 * Empties the outbox: claims due commands, pushes them and records the results. The database decides which commands
 * are due and who holds them, so any number of replicas may run a dispatcher.
 *
 * States of the sender, also in docs/operate/push.md:
 *   running   claims as many commands as the limit allows (send-limit.ts), at every wake-up and every poll
 *   paused    FCM refuses the service as a whole (credentials, project, API): tries one command every PROBE_MS and marks
 *             nothing dead; the first other response -> running, with a low limit at first
 *   closed    claims nothing more; sends in flight finish and are recorded, or their leases go back
 *
 * A claim ends in one record: sent, backoff (due again later), gave_up (the mailbox still holds it), paused or,
 * without a push identity and unsent, no_token. If the record cannot be written, the lease runs out and the command is
 * sent again with a higher attempt. While the breaker is open (dead-token-breaker.ts), no token is marked dead and
 * its commands back off.
 */
import type { SenderTrouble } from '../domain/commands/command.ts'
import type { AttemptRecord, Claim, Outbox } from '../domain/delivery/outbox.ts'
import { AppError } from '../domain/errors.ts'
import type { AtFailpoint } from '../domain/failpoint.ts'
import { retryWhile, waitAtMost } from '../lib/timeouts.ts'
import type { Line, LineContext, Log } from '../telemetry/log/log.ts'
import { faultText, lineOf, recordOf, type SendClaimDeps, sendClaim } from './attempt.ts'
import { DeadTokenBreaker } from './dead-token-breaker.ts'
import type { FcmClient, FcmMessage, SendOutcome } from './fcm.ts'
import { SendLimit } from './send-limit.ts'

export interface DispatcherDeps extends SendClaimDeps {
  readonly outbox: Outbox
  readonly log: Log
  readonly maxInFlight: number
  readonly retryBaseMs: number
  readonly newId: () => string
  readonly random: () => number
  /** Monotonic milliseconds: pauses, ramps and the breaker must not depend on a clock that can be set. */
  readonly nowMs: () => number
  /** Called after an attempt is recorded: a request may wait for it. */
  readonly commandChanged: (requestId: string) => void
  /** Called when a database call failed. */
  readonly reportFailure: (error: AppError) => void
  readonly failpoint?: AtFailpoint | undefined
  /** Probe interval while paused. Default 30 s. */
  readonly probeMs?: number
  /** Runs once, at the start, beside the sends. A permanent problem pauses the sender, another one is logged. */
  readonly selfTest?: FcmClient['selfTest']
}

const POLL_MS = 500
const PROBE_MS = 30_000
/** Writing a record is retried within its lease of 60 s. */
const RECORD_TRIES = 10
const RECORD_RETRY_MS = 2_000

export class Dispatcher {
  readonly #deps: DispatcherDeps
  readonly #probeMs: number
  readonly #limit: SendLimit
  readonly #breaker = new DeadTokenBreaker()
  #isBreakerOpen = false
  /** The last error was unexpected. */
  #isFaulty = false
  readonly #inFlight = new Map<Claim, Promise<void>>()
  readonly #closing = new AbortController()
  #poll: NodeJS.Timeout | undefined
  #claiming = Promise.resolve()
  #isClaiming = false
  #isClaimWanted = false
  /** 0: running. Otherwise paused, and the time of the next probe. */
  #nextProbeAtMs = 0
  #pausedAt = new Date(0)

  constructor(deps: DispatcherDeps) {
    this.#deps = deps
    this.#probeMs = deps.probeMs ?? PROBE_MS
    this.#limit = new SendLimit(deps.maxInFlight)
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  /** FCM refuses the service as a whole: due commands wait for a successful probe. */
  get isPaused(): boolean {
    return this.#nextProbeAtMs !== 0
  }

  get trouble(): SenderTrouble | undefined {
    return this.isPaused ? { kind: 'paused', since: this.#pausedAt } : this.#limit.trouble
  }

  start(): void {
    this.#poll = setInterval(() => {
      this.#reportBreaker()
      this.wake()
    }, POLL_MS)
    this.wake()
    void this.#selfTest()
  }

  /** Cheap; may be called at any time. */
  wake(): void {
    this.#isClaimWanted = true
    if (!this.#isClaiming && !this.#closing.signal.aborted) this.#claiming = this.#claimAll()
  }

  /** Stops claiming and waits for sends in flight. Those left at the deadline or at `hurry` become due again at once. */
  async close(deadlineMs: number, hurry?: AbortSignal): Promise<void> {
    this.#closing.abort()
    clearInterval(this.#poll)
    const settled = Promise.allSettled([this.#claiming, ...this.#inFlight.values()])
    await waitAtMost(settled, deadlineMs, hurry)
    await this.#handBack([...this.#inFlight.keys()])
  }

  async #claimAll(): Promise<void> {
    this.#isClaiming = true
    try {
      while (this.#isClaimWanted && !this.#closing.signal.aborted) {
        this.#isClaimWanted = false
        const limit = this.#claimable()
        if (limit === 0) break
        const claims = await this.#deps.outbox.claim(limit, this.#deps.newId())
        this.#worked()
        if (claims.length > 0) this.#deps.failpoint?.('after_claim')
        if (this.#closing.signal.aborted) {
          await this.#handBack(claims)
          break
        }
        if (this.isPaused && claims.some(({ pushId }) => pushId !== null)) {
          this.#nextProbeAtMs = this.#deps.nowMs() + this.#probeMs
        }
        for (const claim of claims) this.#begin(claim)
        if (this.#deps.outbox.hasMoreDue()) this.#isClaimWanted = true
      }
    } catch (error) {
      this.#failed(error) // the next poll tries again
    } finally {
      this.#isClaiming = false
    }
  }

  #claimable(): number {
    const nowMs = this.#deps.nowMs()
    const free = Math.max(0, this.#limit.at(nowMs) - this.#inFlight.size)
    if (!this.isPaused || free === 0) return free
    return nowMs < this.#nextProbeAtMs ? 0 : 1
  }

  async #handBack(claims: readonly Claim[]): Promise<void> {
    if (claims.length > 0) await this.#deps.outbox.handBack(claims).catch(() => {})
  }

  #begin(claim: Claim): void {
    const { pushId } = claim
    const work = pushId === null ? this.#recordNoToken(claim) : this.#send(claim, pushId)
    const sending = work.finally(() => {
      this.#inFlight.delete(claim)
      this.wake()
    })
    this.#inFlight.set(claim, sending)
  }

  async #send(claim: Claim, pushId: FcmMessage['pushId']): Promise<void> {
    const sent = await sendClaim(claim, pushId, this.#deps)
    this.#deps.failpoint?.('after_fcm_before_record')
    this.#pauseOrResume(sent)
    const outcome = this.#judge(claim, sent)
    const record = recordOf(claim, outcome, { ...this.#deps, probeMs: this.#probeMs })
    // Logged before it is recorded: the message is out even if the record fails.
    this.#write(claim, lineOf(claim, outcome, record))
    await this.#record(claim, outcome, record)
    this.#deps.commandChanged(claim.requestId)
  }

  /** Reports the outcome to the limit and the breaker, and returns the outcome to record. */
  #judge({ deviceId }: Claim, outcome: SendOutcome): SendOutcome {
    const nowMs = this.#deps.nowMs()
    const isDead = outcome.kind === 'token_dead'
    const isThrough = isDead || outcome.kind === 'sent' || outcome.kind === 'rejected'
    const isJudged = isThrough && outcome.httpAttempts > 0
    // Without an attempt, a failure of the token endpoint counts as one of FCM; a secret that is not configured does
    // not.
    const isLost = outcome.httpAttempts > 0 || NO_RESPONSE.has(outcome.fcmStatus)
    if (isJudged) {
      this.#limit.succeeded(nowMs)
      this.#breaker.record(deviceId, isDead, nowMs)
    } else if (outcome.kind === 'retry' && isLost) {
      this.#limit.failed({ ...outcome, deviceId }, this.#deps.now(), nowMs)
    }
    const why = this.#reportBreaker()
    if (!isDead || why === undefined) return outcome
    const detail = `push token kept, ${why}`
    return { ...outcome, kind: 'retry', retryAfterMs: null, detail }
  }

  /** Logs when the breaker opens or closes. Returns why tokens must not be marked dead now, or undefined. */
  #reportBreaker(): string | undefined {
    const why = this.#breaker.openReason(this.#deps.nowMs())
    const isOpen = why !== undefined
    // push.resumed would be wrong while the sender is paused.
    if (isOpen === this.#isBreakerOpen || (!isOpen && this.isPaused)) return why
    this.#isBreakerOpen = isOpen
    // Sends continue; only the marking of tokens stops, and the operator must know.
    if (isOpen) {
      const reason = `token clearing only: ${why}`
      this.#write(undefined, { event: 'push.paused', fields: { reason } })
    } else this.#write(undefined, { event: 'push.resumed', fields: {} })
    return why
  }

  /** Logs unexpected errors; otherwise push stops silently. */
  #failed(error: unknown): void {
    if (error instanceof AppError) this.#deps.reportFailure(error)
    if (error instanceof AppError || this.#isFaulty) return
    this.#isFaulty = true
    const reason = `a fault of ours: ${faultText(error)}`
    this.#write(undefined, { event: 'push.paused', fields: { reason } })
  }

  #worked(): void {
    if (!this.#isFaulty) return
    this.#isFaulty = false
    this.#write(undefined, { event: 'push.resumed', fields: {} })
  }

  async #record(claim: Claim, outcome: SendOutcome, record: AttemptRecord): Promise<void> {
    const { outbox } = this.#deps
    await this.#writeWithRetries(async () => {
      if (outcome.kind !== 'token_dead') {
        await outbox.record(claim, record)
        return
      }
      const { isMarked } = await outbox.recordDeadToken(claim, record)
      const fields = { fcm_status: outcome.fcmStatus }
      if (isMarked) this.#write(claim, { event: 'push.token_dead', fields })
      else this.wake()
    })
  }

  async #recordNoToken(claim: Claim): Promise<void> {
    await this.#writeWithRetries(() => this.#deps.outbox.recordNoToken(claim))
    this.#deps.commandChanged(claim.requestId)
  }

  /** Never rejects: after the last try the lease runs out, and another attempt follows. */
  async #writeWithRetries(write: () => Promise<unknown>): Promise<void> {
    const { signal } = this.#closing
    const pauseMs = (error: unknown, tries: number) => {
      this.#failed(error)
      return tries < RECORD_TRIES && !signal.aborted ? RECORD_RETRY_MS : undefined
    }
    await retryWhile(write, pauseMs, signal).catch(() => {})
  }

  async #selfTest(): Promise<void> {
    const outcome = await this.#deps.selfTest?.()
    if (outcome === undefined || outcome === 'ok' || this.#closing.signal.aborted) return
    const reason = `self-test: ${outcome.problem}`
    if (outcome.isTemporary) this.#write(undefined, { event: 'push.self_test', fields: { reason } })
    else this.#pause(reason)
  }

  #pauseOrResume(outcome: SendOutcome): void {
    if (outcome.kind === 'unauthenticated' || outcome.kind === 'misconfigured') {
      this.#pause(`${outcome.fcmStatus}: ${outcome.detail}`)
      return
    }
    // A message that FCM did not receive, or may not have read, proves nothing.
    const isTaken = outcome.kind !== 'retry' && outcome.httpAttempts > 0
    if (!isTaken || !this.isPaused) return
    this.#nextProbeAtMs = 0
    this.#isBreakerOpen = false // reported again if it is still open
    this.#limit.ramp(this.#deps.nowMs())
    this.#write(undefined, { event: 'push.resumed', fields: {} })
  }

  #pause(reason: string): void {
    if (this.isPaused) return
    this.#nextProbeAtMs = this.#deps.nowMs() + this.#probeMs
    this.#pausedAt = this.#deps.now()
    this.#write(undefined, { event: 'push.paused', fields: { reason } })
  }

  #write(claim: Claim | undefined, line: Line): void {
    const context: LineContext = {
      requestId: claim?.requestId ?? null,
      route: null,
      ip: null,
      userAgent: null,
      deviceId: claim?.deviceId ?? null,
      alias: claim?.alias ?? null,
    }
    this.#deps.log.write(line, context)
  }
}

const NO_RESPONSE: ReadonlySet<string> = new Set(['TIMEOUT', 'NETWORK'])
