/** A job and its members as JSON for admins. */

import type { MemberRow } from '../../db/jobs/members.ts'
import type { JobRow } from '../../db/jobs/rows.ts'
import type { SenderTrouble } from '../../domain/commands/command.ts'
import {
  endedOf,
  etaS,
  type JobFacts,
  jobVerdict,
  type OfflineMembers,
} from '../../domain/commands/job.ts'
import { commandJson, pausedWith } from '../commands/command-json.ts'

/** `members` undefined: in a list, which has no verdict. */
export function jobJson(job: JobRow, members: OfflineMembers | undefined) {
  const facts = factsOf(job)
  return {
    job_id: job.jobId,
    action: job.action,
    params: job.params,
    where: job.where,
    admin: job.admin,
    note: job.note,
    state: job.state,
    reason: job.reason,
    created_at: job.createdAtText,
    not_before: job.notBeforeText,
    changed_at: job.changedAtText,
    ended_at: job.endedAtText,
    ttl_s: job.ttlS,
    per_minute: job.perMinute,
    max_failed_pct: job.maxFailedPct,
    min_results: job.minResults,
    devices: job.devices,
    released: job.released,
    counts: job.counts,
    rate: { released_per_min: job.releasedPerMin, ended_per_min: job.endedPerMin },
    eta_s: job.endedAtText === null ? etaS(facts) : null,
    ...(members !== undefined && { verdict: jobVerdict(facts, members) }),
  }
}

function factsOf(job: JobRow): JobFacts {
  const { counts, failureMessage: message, failureCount: count } = job
  return {
    ...job,
    threshold: {
      ended: endedOf(counts) - job.endedBefore,
      failed: counts.failed + counts.expired - job.failedBefore,
    },
    failure: message === null || count === null ? null : { message, count },
  }
}

/** A command, with the same first fields where there is none yet. */
export function memberJson(job: JobRow, member: MemberRow, trouble: SenderTrouble | undefined) {
  const { n, command, unreleased } = member
  if (command !== null) return commandJson(pausedWith(command, trouble))
  return {
    request_id: `${job.jobId}.${n}`,
    device_id: unreleased?.deviceId ?? null,
    alias: unreleased?.alias ?? null,
    action: job.action,
    params: job.params,
    admin: job.admin,
    status: job.state === 'aborted' ? 'cancelled' : 'waiting',
  }
}
