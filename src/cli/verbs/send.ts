/** `send`: a command to one phone, a job to many. */
import { type Api, ApiError } from '../api/client.ts'
import type { CommandStatus, CreatedJob, JobPreview, NewJob } from '../api/openapi.ts'
import { exitCodeOf, watchJob } from '../jobs/watch.ts'
import { agree, DRY_RUN, YES } from '../terminal/agree.ts'
import { numberOf, onePage, printList, secondsOf, timeAfter } from '../terminal/list.ts'
import { visible } from '../terminal/text.ts'
import { refuseTwice, UsageError } from '../usage.ts'
import { type Context, EXIT, type ExitCode, type Verb } from '../verb.ts'
import { WHERE_NOTES, whereToChange } from '../where.ts'
import { jobList } from './jobs.ts'

const MAX_WAIT_MS = 30_000
const ENDED: readonly CommandStatus[] = ['completed', 'expired', 'cancelled']

interface Sent {
  readonly alias: string
  readonly request_id: string
  readonly status: string
  readonly result?: { readonly outcome: string; readonly message: string | null } | null
}

interface Order {
  readonly job: NewJob
  readonly id: string
  /** Whether the person chose it: then this may be a repeat. */
  readonly isIdGiven: boolean
  /** Of a relative --at. */
  readonly delayS: number | undefined
  readonly waitMs: number
}

export const sendVerb: Verb = {
  name: 'send',
  summary: 'send a command to one phone, or a job to a selection',
  words: 'ACTION WHERE [KEY=VALUE …]',
  count: [2, 64],
  options: {
    'per-minute': { value: 'N', help: 'to at most N phones within any minute' },
    'max-failed': { value: 'PCT', help: 'pause the job once so many per cent have failed' },
    at: { value: 'TIME', help: 'not before 2026-01-31T22:00:00Z, or in 2h' },
    ttl: { value: '1h', help: 'give each phone up after this time; default 1d' },
    id: { value: 'ID', help: 'id of the command or the job; the same again sends nothing new' },
    note: { value: 'TEXT', help: 'a note that the job keeps' },
    wait: { value: '30s', help: 'wait so long for the results' },
    ...DRY_RUN,
    ...YES,
  },
  calls: ['createJob', 'readJob', 'sendCommand', 'readCommand'],
  examples: [
    'send ring D01 seconds=5 --wait 1s --dry-run',
    'send ring D01 seconds=5 --ttl 1h',
    "send reboot 'STORE-*' --dry-run",
    "send reboot 'STORE-*' --per-minute 60 --max-failed 5 --id reboot-1 --yes",
    "send ring 'STORE-*' --at 2h --yes",
  ],
  notes: [
    ...WHERE_NOTES,
    'More than one phone, --at or --note make a job: fleetloop job ID. To more than one phone it',
    'shows them and asks first, and refuses if their number has changed by then.',
  ],
  async run(context) {
    const { args, terminal } = context
    const given = orderOf(context)
    const api = context.api()
    const isLookedUp = given.isIdGiven || given.delayS !== undefined
    const known = isLookedUp ? await knownBy(api, given.id) : undefined
    const order = given.delayS === undefined ? given : startedAfter(given, given.delayS, api.now())
    if (known === 'job' && !args.has('dry-run')) {
      return await sendJob(context, api, order.job, order.waitMs)
    }
    const preview = await previewOf(api, order.job)
    if (preview === undefined) {
      terminal.note('No phone matches.')
      return EXIT.no
    }
    const isCommand =
      preview.devices === 1 && order.job.not_before === undefined && order.job.note === undefined
    if (known === 'command' && !isCommand) {
      terminal.note(`${visible(order.id)} is a command to one phone already: give another --id.`)
      return EXIT.no
    }
    const decision = await agree(context, planOf(preview, order.job))
    if (decision !== 'yes') return decision === 'dry' ? EXIT.ok : EXIT.no
    if (isCommand) return await sendOne(context, api, order, preview)
    const job = { ...order.job, expect_devices: preview.devices }
    return await sendJob(context, api, job, order.waitMs)
  },
}

/** Throws UsageError. */
function orderOf({ args, newId }: Context): Order {
  const [action = '', where = '', ...rest] = args.words
  const params = paramsOf(rest)
  const given = args.text('id')
  const at = args.text('at')
  const isDelay = /^\d{1,9}[smhd]$/.test(at ?? '')
  const id = given ?? `${action}-${newId().replaceAll('-', '').slice(-ID_LENGTH)}`
  const job = {
    job_id: id,
    where: whereToChange([where]),
    action,
    params,
    ttl_s: secondsOf(args.text('ttl'), '--ttl', undefined),
    per_minute: numberOf(args.text('per-minute'), '--per-minute', undefined),
    max_failed_pct: numberOf(args.text('max-failed')?.replace(/%$/, ''), '--max-failed', undefined),
    not_before: isDelay ? undefined : timeOf(at),
    note: args.text('note'),
  }
  const waitMs = secondsOf(args.text('wait'), '--wait', 0) * 1_000
  const delayS = isDelay ? secondsOf(at, '--at', undefined) : undefined
  return { job: withoutUndefined(job), id, isIdGiven: given !== undefined, delayS, waitMs }
}

/** `now`: the service's. */
function startedAfter(order: Order, delayS: number, now: Date): Order {
  return { ...order, job: { ...order.job, not_before: timeAfter(delayS, now) } }
}

/** Of the random end of a UUID: two sends that meet would be one. */
const ID_LENGTH = 12

type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> }

function withoutUndefined<T extends object>(fields: T): Given<T> {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given) as Given<T> // the same fields
}

/** A time with its zone. Throws UsageError. */
function timeOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  if (/^\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)$/i.test(text)) return text // the API reads the rest
  throw new UsageError('--at takes a time with its zone, 2026-01-31T22:00:00Z, or a duration, 2h.')
}

/** Throws UsageError. */
function paramsOf(words: readonly string[]): Readonly<Record<string, string>> {
  const odd = words.find((word) => !word.includes('='))
  if (odd !== undefined) {
    throw new UsageError(
      `${visible(odd)} is no KEY=VALUE. A WHERE of several terms is one argument, in quotes.`,
    )
  }
  const pairs = words.map((word) => word.split(/=(.*)/s))
  const names = pairs.map(([name = '']) => name)
  refuseTwice(names, (name) => `${name}= is given twice.`)
  return Object.fromEntries(pairs.map(([name = '', value = '']) => [name, value]))
}

/** What has this id: a repeat must not become the other, which would send again. */
async function knownBy(api: Api, id: string): Promise<'job' | 'command' | undefined> {
  if ((await api.find('readJob', { path: { job_id: id } })) !== undefined) return 'job'
  const command = await api.find('readCommand', { path: { request_id: id } })
  return command === undefined ? undefined : 'command'
}

/** undefined: no phone matches. */
async function previewOf(api: Api, job: NewJob): Promise<JobPreview | undefined> {
  try {
    const preview = await api.call('createJob', { body: { ...job, dry_run: true } })
    return 'sample' in preview && preview.devices > 0 ? preview : undefined
  } catch (error) {
    if (error instanceof ApiError && error.code === 'selection_empty') return undefined
    throw error
  }
}

function planOf({ devices, sample, unreachable }: JobPreview, job: NewJob) {
  const { offline, no_push } = unreachable
  const facts = [
    offline > 0 ? `${offline} offline` : '',
    no_push > 0 ? `${no_push} without live push` : '',
    job.per_minute === undefined ? '' : `${job.per_minute} a minute`,
    job.not_before === undefined ? '' : `not before ${visible(job.not_before)}`,
  ].filter((fact) => fact !== '')
  return {
    verb: `send ${visible(job.action)} to`,
    noun: 'phones',
    titles: ['ALIAS', 'DEVICE ID'],
    rows: sample.map(({ alias, device_id }) => [alias, device_id]),
    count: devices,
    detail: facts.length === 0 ? '' : ` (${facts.join(', ')})`,
    objects: [{ devices, sample, unreachable }],
  }
}

async function sendOne(
  context: Context,
  api: Api,
  { job, id, waitMs }: Order,
  { sample }: JobPreview,
): Promise<ExitCode> {
  const { action, params = {}, ttl_s } = job
  const [phone] = sample
  if (phone === undefined) throw new Error('a preview of one phone names it')
  const sent: Sent = await repeatable(context, id, async () => {
    const accepted = await api.call('sendCommand', {
      query: { wait_ms: 0 },
      body: {
        ...{ device_id: phone.device_id, action, params, request_id: id },
        ...(ttl_s !== undefined && { ttl_s }),
      },
    })
    return waitMs > 0 ? await awaitEnd(context, api, id, waitMs) : accepted
  })
  await printList(context, SENT_LIST, onePage([sent]))
  return waitMs === 0 || sent.result?.outcome === 'success' ? EXIT.ok : EXIT.no
}

/** A lost answer, or Ctrl-C: the id is what a repeat needs, so that it does not send again. */
async function repeatable<T>(
  { terminal }: Context,
  id: string,
  send: () => Promise<T>,
): Promise<T> {
  const advice = `It may have been sent. So as not to send it twice, repeat it with --id ${visible(id)}`
  terminal.farewell(advice)
  try {
    const sent = await send()
    terminal.farewell('')
    return sent
  } catch (error) {
    const isLost = error instanceof ApiError && error.failure === 'unavailable'
    if (isLost) terminal.note(advice)
    throw error
  }
}

async function awaitEnd({ terminal }: Context, api: Api, id: string, waitMs: number) {
  const untilMs = performance.now() + waitMs
  terminal.farewell(`The command goes on: fleetloop why ${visible(id)}`)
  for (;;) {
    const leftMs = Math.max(0, Math.ceil(untilMs - performance.now()))
    terminal.progress(`waiting for the result, ${Math.ceil(leftMs / 1_000)} s left`)
    const command = await api.call('readCommand', {
      path: { request_id: id },
      query: { wait_ms: Math.min(MAX_WAIT_MS, leftMs) },
    })
    if (ENDED.includes(command.status) || leftMs === 0) {
      terminal.progress('')
      return command
    }
  }
}

const SENT_LIST = {
  columns: [
    { title: 'ALIAS' },
    { title: 'COMMAND' },
    { title: 'STATUS', isFixed: true },
    { title: 'OUTCOME', isFixed: true },
    { title: 'MESSAGE' },
  ],
  nothing: '',
  row: ({ alias, request_id, status, result }: Sent) => [
    ...[alias, request_id, status, result?.outcome, result?.message],
  ],
}

async function sendJob(
  context: Context,
  api: Api,
  body: NewJob,
  waitMs: number,
): Promise<ExitCode> {
  const { terminal } = context
  const create = () => api.call('createJob', { body })
  const created = (await repeatable(context, `${body.job_id}`, create)) as CreatedJob // no dry run
  const { job_id, duplicate } = created
  if (duplicate) terminal.note(`Job ${visible(job_id)} is there already: nothing new was sent.`)
  else if (waitMs === 0) terminal.note(`Follow it: fleetloop job ${visible(job_id)} --watch`)
  const watch = () => watchJob(context, api, job_id, { forMs: waitMs })
  const job = waitMs > 0 ? await repeatable(context, job_id, watch) : created
  await printList(context, jobList(api.now), onePage([job]))
  return waitMs > 0 ? exitCodeOf(job) : EXIT.ok
}
