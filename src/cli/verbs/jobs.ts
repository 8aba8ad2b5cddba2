/** `jobs` and `job`: one command for many phones, how far it is, and what stops it. */
import type {
  Command,
  Job,
  JobInList,
  JobState,
  MemberStatus,
  WaitingMember,
} from '../api/openapi.ts'
import { pages } from '../api/pages.ts'
import { endedOf, openOf, progressOf, stateOf } from '../jobs/progress.ts'
import { exitCodeOf, watchJob } from '../jobs/watch.ts'
import { ago } from '../terminal/ago.ts'
import { agree, YES } from '../terminal/agree.ts'
import { LIMIT, limitOf, minute, printList } from '../terminal/list.ts'
import { type Cell, factLines } from '../terminal/table.ts'
import { jsonLine, visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { type Context, EXIT, type Verb } from '../verb.ts'

const STATES: Readonly<Record<JobState, true>> = {
  ...{ scheduled: true, running: true, paused: true, done: true, aborted: true },
}
const MEMBER_STATUSES: Readonly<Record<MemberStatus, true>> = {
  ...{ waiting: true, queued: true, sent: true, delivered: true, push_failed: true },
  ...{ completed: true, failed: true, expired: true, cancelled: true },
}
const CONTROLS = { pause: 'pauseJob', resume: 'resumeJob', abort: 'abortJob' } as const

/** `ring seconds=5`. */
function callOf({ action, params }: Pick<JobInList, 'action' | 'params'>): string {
  return [action, ...Object.entries(params).map((pair) => pair.join('='))].join(' ')
}

export const jobList = (now: () => Date) => ({
  columns: [
    { title: 'JOB' },
    { title: 'STATE', isFixed: true },
    { title: 'ENDED', align: 'right', isFixed: true },
    { title: 'FAILED', align: 'right', isFixed: true },
    { title: 'ACTION' },
    { title: 'WHERE' },
    { title: 'CREATED', isFixed: true },
    { title: 'BY' },
    { title: 'NOTE' },
  ] as const,
  nothing: 'No job matches.',
  row: (job: JobInList): readonly Cell[] => [
    ...[job.job_id, stateOf(job), `${endedOf(job.counts)}/${job.devices}`],
    ...[job.counts.failed + job.counts.expired, callOf(job), job.where],
    ...[ago(job.created_at, now()), job.admin, job.note],
  ],
})

export const jobsVerb: Verb = {
  name: 'jobs',
  summary: 'list jobs, newest first, and how far they are',
  words: '',
  count: [0, 0],
  options: { state: { value: 'STATE', help: Object.keys(STATES).join(', ') }, ...LIMIT },
  calls: ['listJobs'],
  examples: ['jobs', 'jobs --state running'],
  async run(context) {
    const api = context.api()
    const state = oneOf(STATES, context.args.text('state'), '--state')
    const query = state === undefined ? {} : { state }
    await printList(
      context,
      jobList(api.now),
      pages(api, 'listJobs', 'jobs', query, limitOf(context)),
    )
    return EXIT.ok
  },
}

export const jobVerb: Verb = {
  name: 'job',
  summary: 'show a job, follow it, list its members, or pause, resume or abort it',
  words: 'ID [pause | resume | abort]',
  count: [1, 2],
  choices: Object.keys(CONTROLS),
  options: {
    watch: { help: 'follow it until it ends; Ctrl-C leaves it running' },
    status: {
      value: 'STATUS',
      help: 'list its members of this status: failed, expired, waiting …',
    },
    'keep-open': { help: 'abort: the commands that are out go on' },
    ...LIMIT,
    ...YES,
  },
  calls: ['readJob', 'listMembers', 'pauseJob', 'resumeJob', 'abortJob'],
  examples: [
    'job reboot-1',
    'job reboot-1 --status waiting',
    'job reboot-1 pause',
    'job reboot-1 resume',
    'job reboot-1 abort --yes',
  ],
  notes: [
    '--watch exits with 0 if every member has completed, else with 1; --status lists them then.',
    'Without a terminal it ends at a pause, too. abort cancels what waits and what is open; more',
    'than one: it asks first.',
  ],
  async run(context) {
    const { args } = context
    const [jobId = '', control] = args.words
    const status = oneOf(MEMBER_STATUSES, args.text('status'), '--status')
    if (control !== undefined && !isControl(control)) {
      throw new UsageError(`${visible(control)} is none of ${Object.keys(CONTROLS).join(', ')}.`)
    }
    if (args.has('keep-open') && control !== 'abort')
      throw new UsageError('--keep-open: abort only.')
    const api = context.api()
    if (control === 'abort' && !(await agreesToAbort(context, jobId))) return EXIT.no
    const path = { job_id: jobId }
    const job =
      control === undefined
        ? await api.find('readJob', { path })
        : await api.call(CONTROLS[control], {
            path,
            ...(args.has('keep-open') && { body: { cancel_open: false } }),
          })
    if (job === undefined) {
      context.terminal.note(`No job has the name ${visible(jobId)}. fleetloop jobs`)
      return EXIT.no
    }
    const shown = args.has('watch')
      ? await watchJob(context, api, jobId, { forMs: Number.POSITIVE_INFINITY })
      : job
    if (status === undefined) await printJob(context, shown, api.now())
    else {
      const found = pages(api, 'listMembers', 'commands', { status }, limitOf(context), path)
      await printList(context, MEMBER_LIST, found)
    }
    return args.has('watch') ? exitCodeOf(shown) : EXIT.ok
  },
}

async function agreesToAbort(context: Context, jobId: string): Promise<boolean> {
  const { counts, devices } = await context.api().call('readJob', { path: { job_id: jobId } })
  const open = context.args.has('keep-open') ? 0 : openOf(counts)
  const verb = `abort ${visible(jobId)} (${endedOf(counts)} of ${devices} ended) and cancel`
  const count = counts.waiting + open
  const plan = { verb, noun: 'commands', titles: [], rows: [], count }
  return plan.count === 0 || (await agree(context, plan)) === 'yes'
}

async function printJob(context: Context, job: Job, now: Date): Promise<void> {
  const { terminal, isJson } = context
  const lines = isJson ? [jsonLine(job)] : factLines(factsOf(job, now), terminal.width)
  for (const line of lines) await terminal.print(line)
}

function factsOf(job: Job, now: Date): readonly (readonly [string, Cell])[] {
  const { counts, per_minute, max_failed_pct, min_results, not_before } = job
  const pace = per_minute === null ? 'no limit' : `at most ${per_minute} a minute`
  const limit =
    max_failed_pct === null
      ? 'none'
      : `pauses at ${max_failed_pct} % failed, from ${min_results} results on`
  return [
    ['job', job.job_id],
    ['action', callOf(job)],
    ['where', job.where],
    ['created', `${ago(job.created_at, now)} by ${job.admin}`],
    ...(job.note === null ? [] : [['note', job.note] as const]),
    ...(not_before === null ? [] : [['not before', minute(not_before)] as const]),
    ['pace', pace],
    ['threshold', limit],
    ['state', stateOf(job)],
    ['progress', progressOf(job)],
    ...Object.entries(counts)
      .filter(([, count]) => count > 0)
      .map(([status, count]) => [status, count] as const),
    ['verdict', `${job.verdict.code}: ${job.verdict.detail}`],
  ]
}

const MEMBER_LIST = {
  columns: [
    { title: 'ALIAS' },
    { title: 'STATUS', isFixed: true },
    { title: 'OUTCOME', isFixed: true },
    { title: 'COMMAND' },
    { title: 'PUSH', isFixed: true },
    { title: 'MESSAGE' },
    { title: 'DEVICE ID', isFixed: true },
  ] as const,
  nothing: 'No member of the job has that status.',
  row: (member: Command | WaitingMember): readonly Cell[] => {
    const { alias, status, request_id, device_id } = member
    const [push, result] = 'push' in member ? [member.push.state, member.result] : [null, null]
    return [alias, status, result?.outcome, request_id, push, result?.message, device_id]
  },
}

function isControl(text: string): text is keyof typeof CONTROLS {
  return Object.hasOwn(CONTROLS, text)
}

/** Throws UsageError. */
function oneOf<T extends string>(
  values: Readonly<Record<T, true>>,
  text: string | undefined,
  option: string,
): T | undefined {
  if (text === undefined) return undefined
  const isKnown = (text: string): text is T => Object.hasOwn(values, text)
  if (isKnown(text)) return text
  throw new UsageError(`${option} takes ${Object.keys(values).join(', ')}.`)
}
