/** POST /admin/jobs: one command for every device of a selection, stored durably and released at a pace. */
import { createHash } from 'node:crypto'
import type { CreateOutcome } from '../../db/jobs/create.ts'
import { JOB_ID } from '../../domain/commands/job.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import {
  asObject,
  booleanField,
  type Fields,
  intField,
  optionalInt,
  optionalText,
  optionalTime,
} from '../../http/fields.ts'
import { type Endpoint, httpRequestId, json } from '../../http/route.ts'
import {
  contentHash,
  readAction,
  readKey,
  readParams,
  readTtlS,
} from '../commands/command-fields.ts'
import { readSelection } from '../devices/selection-fields.ts'
import type { Jobs } from './feature.ts'
import { jobJson } from './job-json.ts'
import { offlineMembers } from './jobs.ts'

const PER_MINUTE = { min: 1, max: 100_000 } as const
const MAX_FAILED_PCT = { min: 1, max: 100 } as const
const MIN_RESULTS = { min: 1, max: 1_000_000 } as const
const DEFAULT_MIN_RESULTS = 10
const MAX_NOTE_LENGTH = 200
/** How far ahead `not_before` may be: a scheduled job counts among the unsettled ones. */
const MAX_AHEAD_S = 30 * 86_400

export function createJobEndpoint(deps: Jobs): Endpoint<'admin'> {
  return {
    async handle(request) {
      const body = asObject(request.body)
      const { context, admin } = request
      const selected = readSelection(body)
      const action = readAction(body, deps.actions)
      const params = readParams(body)
      const key = readKey(body, request, 'job_id', JOB_ID)
      const members = contentHash(action, params)
      const job = {
        jobId: key.id,
        ...selected,
        action,
        params,
        contentHash: members,
        requestHash: createHash('sha256').update(members).update(selected.where).digest(),
        ttlS: readTtlS(body),
        perMinute: optionalInt(body, 'per_minute', PER_MINUTE) ?? null,
        maxFailedPct: optionalInt(body, 'max_failed_pct', MAX_FAILED_PCT) ?? null,
        minResults: intField(body, 'min_results', MIN_RESULTS, DEFAULT_MIN_RESULTS),
        notBefore: readNotBefore(body, deps.now()),
        note: optionalText(body, 'note', MAX_NOTE_LENGTH) ?? null,
        admin,
        requestId: context.requestId,
        ip: context.ip,
      }
      if (booleanField(body, 'dry_run') === true) {
        const { devices, sample, offline, noPush } = await deps.jobs.preview(job, deps)
        return json(200, { devices, sample, unreachable: { offline, no_push: noPush } })
      }
      const outcome = await deps.jobs.create(job, deps)
      if (!('job' in outcome)) throw refusal(outcome.kind, key.id)
      // Without a key this is no repeat: a new job would be dropped silently.
      if (outcome.kind === 'repeated' && !key.isGiven) throw refusal('conflict', key.id)
      context.requestId = outcome.job.jobId
      const isDuplicate = outcome.kind === 'repeated'
      if (!isDuplicate) {
        const { devices, counts, reason } = outcome.job
        const { completed, failed, expired, cancelled } = counts
        const ends = { completed, failed, expired, cancelled }
        request.log({
          event: 'job.create',
          fields: {
            action,
            devices,
            ...ends,
            reason,
            admin,
            http_request_id: httpRequestId(context),
          },
        })
        deps.wakeReleases()
      }
      const offline = await offlineMembers(deps.jobs, outcome.job, deps)
      const shown = { ...jobJson(outcome.job, offline), duplicate: isDuplicate }
      return json(isDuplicate ? 200 : 202, shown)
    },
  }
}

/** db/jobs/create.ts refuses one that is long past, unless the job is a repeat. */
function readNotBefore(body: Fields, now: Date): string | null {
  const at = optionalTime(body, 'not_before')
  if (at === undefined) return null
  if (Date.parse(at) - now.getTime() > MAX_AHEAD_S * 1_000) {
    throw invalidField('not_before', `must be within ${MAX_AHEAD_S / 86_400} days`)
  }
  return at
}

function refusal(kind: Exclude<CreateOutcome['kind'], 'created' | 'repeated'>, id: string) {
  return new AppError(
    'request_id_conflict',
    kind === 'conflict'
      ? `Another job has the job_id ${id}. Send a new one for a new job.`
      : `A command has an id such as ${id}.1, which a member of this job would get. Send another job_id.`,
  )
}
