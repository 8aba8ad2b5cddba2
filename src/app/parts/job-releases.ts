/**
 * The release of jobs, a sibling of the dispatcher: at every wake-up and every poll it asks the database which jobs are due
 * and moves each of them on by one transaction, until none has more. The database decides how many members may be released,
 * so any number of replicas may run it.
 */
import type { Advanced, JobChange, JobQueue, MemberChange } from '../../db/jobs/release.ts'
import { jobKey } from '../../domain/commands/job.ts'
import { BACKGROUND, type Line, type Log } from '../../telemetry/log/log.ts'
import type { ReportFailure } from './background-failures.ts'
import type { Sender } from './push.ts'

export interface JobReleasesDeps {
  readonly stores: { jobQueue(isPushOn: boolean): JobQueue }
  /** Woken when members were released. undefined: push is off. */
  readonly sender: Sender | undefined
  readonly logger: Log
  /** Called with a command's request_id when it was cancelled, and with a job's key when it changed its state. */
  readonly commandChanged: (key: string) => void
  readonly reportFailure: ReportFailure
}

export interface JobReleases {
  start(): void
  /** Cheap; may be called at any time. */
  wake(): void
  /** Starts no further transaction; resolves when the current one has ended. */
  stop(): Promise<void>
  /** Jobs that are scheduled, running or paused, as last seen; over all replicas. */
  readonly jobsOpen: number
}

/** While a job has members to release. A quarter of what its bucket holds (domain/commands/job.ts), so a late poll costs no pace. */
const POLL_MS = 250
/** Otherwise: results arrive, `not_before` comes, or another replica creates a job. */
const IDLE_POLL_MS = 1_000

export function createJobReleases(deps: JobReleasesDeps): JobReleases {
  const queue = deps.stores.jobQueue(deps.sender !== undefined)
  let jobsOpen = 0
  let isReleasing = false
  let isStarted = false
  let isStopping = false
  let isWanted = false
  let running: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined

  function wake(): void {
    isWanted = true
    if (!isStarted || isStopping || running !== undefined) return
    clearTimeout(timer)
    running = turn().finally(() => {
      running = undefined
      if (isStopping) return
      if (isWanted) wake()
      else timer = setTimeout(wake, isReleasing ? POLL_MS : IDLE_POLL_MS)
    })
  }

  async function turn(): Promise<void> {
    isWanted = false
    try {
      const unsettled = await queue.unsettled()
      jobsOpen = unsettled.filter(({ isOpen }) => isOpen).length
      isReleasing = unsettled.some((job) => job.isReleasing)
      let due = unsettled.flatMap(({ jobNo, isDue }) => (isDue ? [jobNo] : []))
      while (due.length > 0 && !isStopping) due = await advanceAll(due)
    } catch (error) {
      deps.reportFailure('jobs', error) // the next poll tries again
    }
  }

  /** Each job once, so that a large one does not keep the others waiting. Returns those that have more to do. */
  async function advanceAll(due: readonly string[]): Promise<string[]> {
    const more: string[] = []
    let failure: unknown
    for (const jobNo of due) {
      if (isStopping) return []
      try {
        const advanced = await queue.advance(jobNo)
        if (advanced === undefined) continue
        report(advanced, deps)
        if (advanced.hasMore) more.push(jobNo)
      } catch (error) {
        failure = error // a job that cannot be moved on must not keep the others waiting
      }
    }
    if (failure !== undefined) deps.reportFailure('jobs', failure)
    return more
  }

  return {
    start() {
      isStarted = true
      wake()
    },
    wake,
    async stop() {
      isStopping = true
      clearTimeout(timer)
      await running
    },
    get jobsOpen() {
      return jobsOpen
    },
  }
}

function report({ jobId, action, admin, ...done }: Advanced, deps: JobReleasesDeps): void {
  for (const member of done.released) {
    const fcm = {
      fcm_http_code: null,
      fcm_status: null,
      dispatch_latency_ms: null,
      http_request_id: null,
    }
    write(deps, member, { event: 'dispatch.request', fields: { action, ...fcm, admin } })
    if (member.isCancelled) {
      const fields = { action, admin, reason: 'device_deleted' }
      write(deps, member, { event: 'command.cancelled', fields })
    }
  }
  for (const member of done.cancelled) {
    const fields = { action, admin, reason: 'job_aborted' }
    write(deps, member, { event: 'command.cancelled', fields })
    deps.commandChanged(member.requestId)
  }
  if (done.released.length > 0) deps.sender?.dispatcher.wake()
  if (done.change === undefined) return
  const line = lineOf(action, done.change)
  if (line !== undefined) deps.logger.write(line, { ...BACKGROUND, requestId: jobId })
  deps.commandChanged(jobKey(jobId))
}

function write(deps: JobReleasesDeps, member: MemberChange, line: Line): void {
  const { requestId, deviceId, alias } = member
  deps.logger.write(line, { ...BACKGROUND, requestId, deviceId, alias })
}

/** The start of a scheduled job has no line. */
function lineOf(action: string, { state, reason, ...counts }: JobChange): Line | undefined {
  const { devices, completed, failed, expired, cancelled } = counts
  const fields = { action, devices, completed, failed, expired, cancelled, reason, admin: null }
  if (state === 'paused') return { event: 'job.pause', level: 'WARN', fields }
  return state === 'done' ? { event: 'job.done', fields } : undefined
}
