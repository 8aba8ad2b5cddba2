/** Follows a job until it ends. */
import { sleep } from '../../lib/timeouts.ts'
import { type Api, ApiError } from '../api/client.ts'
import type { Job } from '../api/openapi.ts'
import { plain } from '../terminal/text.ts'
import type { Context, ExitCode } from '../verb.ts'
import { EXIT } from '../verb.ts'
import { progressOf } from './progress.ts'

/** Of the bar; without one only the end matters. */
const POLL_MS = 1_000
/** The most that the API waits. */
const MAX_WAIT_MS = 30_000
/** A restart or a failover in between does not end the watch. */
const MAX_OUTAGE_MS = 60_000
const PAUSE_MS = 1_000

export interface WatchOptions {
  /** Milliseconds; Infinity: until the job ends. */
  readonly forMs: number
}

/**
 * The job at its end, or after `forMs`. A terminal shows a bar; without one, each new verdict is a line on stderr, and a
 * paused job ends the watch, because nobody there would resume it. Throws ApiError.
 */
export async function watchJob(
  { terminal }: Context,
  api: Api,
  jobId: string,
  { forMs }: WatchOptions,
): Promise<Job> {
  const untilMs = performance.now() + forMs
  terminal.farewell(`Job ${plain(jobId)} goes on: fleetloop job ${plain(jobId)} --watch`)
  let told = ''
  let waitMs = 0
  for (;;) {
    const job = await readPatiently(api, jobId, waitMs, () => terminal.progress('no answer yet …'))
    const { code, detail } = job.verdict
    if (terminal.hasProgress) terminal.progress(progressOf(job))
    else if (code !== told) terminal.note(plain(`${code}: ${detail}`))
    told = code
    const leftMs = untilMs - performance.now()
    const isOver = job.ended_at !== null || leftMs <= 0
    if (isOver || (job.state === 'paused' && !terminal.hasProgress)) {
      terminal.progress('')
      terminal.farewell('')
      return job
    }
    waitMs = Math.ceil(Math.min(leftMs, terminal.hasProgress ? POLL_MS : MAX_WAIT_MS))
  }
}

/** `onOutage`: once for each failure. */
async function readPatiently(
  api: Api,
  jobId: string,
  waitMs: number,
  onOutage: () => void,
): Promise<Job> {
  const request = { path: { job_id: jobId }, query: { wait_ms: waitMs } }
  const giveUpAtMs = performance.now() + waitMs + MAX_OUTAGE_MS
  for (;;) {
    try {
      return await api.call('readJob', request)
    } catch (error) {
      const isOutage = error instanceof ApiError && error.failure === 'unavailable'
      if (!isOutage || performance.now() > giveUpAtMs) throw error
      onOutage()
      await sleep(PAUSE_MS)
    }
  }
}

/** 0 if every member has completed. */
export function exitCodeOf({ state, counts, devices }: Job): ExitCode {
  return state === 'done' && counts.completed === devices ? EXIT.ok : EXIT.no
}
