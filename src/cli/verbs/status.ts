/** `status`: the fleet in one screen, each line with the command that digs deeper. */
import type { Api } from '../api/client.ts'
import type { FleetSummary, JobInList, ValueCounts } from '../api/openapi.ts'
import { endedOf, stateOf } from '../jobs/progress.ts'
import { clip, jsonLine, visible } from '../terminal/text.ts'
import { type Context, EXIT, type ExitCode, type Verb } from '../verb.ts'
import { WHERE_NOTES, whereOf } from '../where.ts'
import { liveBuilds } from '../why/apk.ts'

/** Values of a line; the rest is summed up. */
const MOST_VALUES = 4
/** Open jobs that are named. */
const MOST_JOBS = 3
const JOB_STATES = ['paused', 'running', 'scheduled'] as const
/** Yellow cannot be read on white. */
const RED = '31'

interface Picture {
  readonly fleet: FleetSummary
  readonly builds: readonly string[]
  /** Of each open state the newest. */
  readonly jobs: readonly JobInList[]
}

export const statusVerb: Verb = {
  name: 'status',
  summary: 'show the service and the fleet, or a selection of it, in one screen',
  words: '[WHERE …]',
  count: [0, 16],
  options: {},
  calls: ['healthz', 'readyz', 'readFleet', 'listJobs', 'listBuilds'],
  examples: ['status', 'status label:site=zrh', 'status --json'],
  notes: [...WHERE_NOTES, 'Exit code 3 while the service is not ready.'],
  async run(context) {
    const { terminal, isJson, args } = context
    const api = context.api()
    const { version } = await api.call('healthz', {})
    const reasons = await api.unreadiness()
    if (reasons.length > 0) return await printUnready(context, api, version, reasons)
    const where = whereOf(args.words)
    const fleet = await api.call('readFleet', { query: where === '' ? {} : { where } })
    if (isJson) {
      await terminal.print(jsonLine(fleet))
      return EXIT.ok
    }
    await terminal.print(line(context, 'service', `ready, version ${version}`, api.origin))
    const picture = { fleet, builds: await buildsOf(api), jobs: await openJobs(api, fleet) }
    for (const [name, text, more, isWarning = false] of linesOf(picture, args.words)) {
      const shown = line(context, name, text, more)
      const rest = shown.slice(name.length)
      await terminal.print(isWarning ? terminal.paint(name, RED) + rest : shown)
    }
    return EXIT.ok
  },
}

async function printUnready(
  { terminal, isJson }: Context,
  api: Api,
  version: string,
  reasons: readonly string[],
): Promise<ExitCode> {
  const lines = [
    `${'service'.padEnd(NAME_WIDTH)}not ready, version ${visible(version)}  (${api.origin})`,
    ...reasons.map((reason) => ' '.repeat(NAME_WIDTH) + reason),
  ]
  const print = isJson ? terminal.note : terminal.print
  for (const each of lines) await print(each)
  return EXIT.unavailable
}

async function buildsOf(api: Api): Promise<readonly string[]> {
  const builds = await liveBuilds(api)
  return builds.map(({ build_type, build_id, version_code }) =>
    visible(`${build_type} ${build_id} (${version_code})`),
  )
}

async function openJobs(api: Api, { open_jobs }: FleetSummary): Promise<readonly JobInList[]> {
  if (open_jobs === 0) return []
  const pages = await Promise.all(
    JOB_STATES.map((state) => api.call('listJobs', { query: { state, limit: MOST_JOBS } })),
  )
  return pages.flatMap(({ jobs }) => jobs)
}

type Line = readonly [name: string, text: string, more: string, isWarning?: boolean]

function linesOf({ fleet, builds, jobs }: Picture, words: readonly string[]): readonly Line[] {
  const { devices, online, open_commands: commands } = fleet
  const open = Object.values(commands).reduce((sum, count) => sum + count, 0)
  const dig = (...terms: readonly string[]) =>
    ['fleetloop devices', ...[...words, ...terms].map(quoted)].join(' ')
  return [
    ['phones', `${devices}: ${online} online, ${devices - online} offline`, dig()],
    ['heard of', summaryOf(LAST_CONTACT, fleet.last_contact), dig('--order', 'seen')],
    ['app', versionsOf(fleet.app_version), dig(...commonest('app', fleet.app_version))],
    ['agent', versionsOf(fleet.agent_version), dig(...commonest('agent', fleet.agent_version))],
    ['push', summaryOf({}, fleet.push), dig('push:none,dead,off')],
    [
      'commands',
      open === 0 ? 'none open' : `${open} open: ${summaryOf({}, commands)}`,
      'fleetloop commands',
    ],
    ['jobs', fleet.open_jobs === 0 ? 'none open' : jobsText(fleet, jobs), 'fleetloop jobs'],
    ['builds', builds.join(', ') || 'none is live', 'fleetloop builds'],
    ...warningsOf(fleet, jobs, dig),
  ]
}

const LAST_CONTACT = {
  ...{ '5m': 'within 5 min', '30m': 'within 30 min', '1d': 'within a day', '7d': 'within 7 d' },
  ...{ older: 'longer ago', never: 'never' },
}

function warningsOf(
  fleet: FleetSummary,
  jobs: readonly JobInList[],
  dig: (...terms: readonly string[]) => string,
): readonly Line[] {
  const { devices, online, last_contact, battery, status, push, push_lowered, open_commands } =
    fleet
  const offline = devices - online
  const never = last_contact.never === 0 ? '' : `, ${last_contact.never} of them never heard of`
  const warn = (count: number, text: string, more: string): readonly Line[] =>
    count === 0 ? [] : [['attention', `${count} ${text}`, more, true]]
  return [
    ...warn(offline, `offline${never}`, dig('online:false')),
    ...warn(battery['0-19'], 'with a battery below 20 %', dig('battery<20')),
    ...warn(status.warn + status.error, 'report warn or error', dig('status:warn,error')),
    ...warn(push.dead, 'with a dead push token', dig('push:dead')),
    ...warn(
      push_lowered,
      'with lowered push priority: show notifications or beat more often',
      dig(),
    ),
    ...warn(
      open_commands.push_failed,
      'open commands whose push failed',
      'fleetloop commands --status push_failed',
    ),
    ...jobs
      .filter(({ reason }) => reason === 'threshold')
      .map(({ job_id, counts, devices }): Line => {
        const text = `job ${visible(job_id)} has paused itself: ${counts.failed + counts.expired} of ${devices} failed`
        return ['attention', text, `fleetloop why ${visible(job_id)}`, true]
      }),
  ]
}

/** `2: night 40/412 running, noon 0/3 paused (admin)`. */
function jobsText({ open_jobs }: FleetSummary, jobs: readonly JobInList[]): string {
  const named = jobs
    .slice(0, MOST_JOBS)
    .map((job) => `${visible(job.job_id)} ${endedOf(job.counts)}/${job.devices} ${stateOf(job)}`)
  const more = open_jobs > named.length ? [`and ${open_jobs - named.length} more`] : []
  return `${open_jobs} open: ${[...named, ...more].join(', ')}`
}

/** As a shell takes it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${visible(word).replaceAll("'", "'\\''")}'`
}

/** The command comes at the end where there is room for it. */
function line({ terminal }: Context, name: string, text: string, more: string): string {
  const said = `${name.padEnd(NAME_WIDTH)}${text}`
  if (terminal.width === undefined) return `${said}  (${more})`
  const room = terminal.width - more.length - 4
  return room > MIN_TEXT ? `${clip(said, room)}  (${more})` : clip(said, terminal.width)
}

const NAME_WIDTH = 11
const MIN_TEXT = 30

/** `live 40, dead 2`: what is not zero. */
function summaryOf(
  names: Readonly<Record<string, string>>,
  counts: Readonly<Record<string, number>>,
): string {
  const some = Object.entries(counts).filter(([, count]) => count > 0)
  return some.map(([name, count]) => `${names[name] ?? name} ${count}`).join(', ') || 'none'
}

/** `1.0.25 40, 1.0.24 2, others 3`, the commonest first. */
function versionsOf({ values, others }: ValueCounts): string {
  const shown = values
    .slice(0, MOST_VALUES)
    .map(({ value, devices }) => `${visible(value ?? 'unknown')} ${devices}`)
  const rest = values.slice(MOST_VALUES).reduce((sum, { devices }) => sum + devices, others)
  return [...shown, ...(rest > 0 ? [`others ${rest}`] : [])].join(', ') || 'none'
}

/** A term for the commonest known version; none if no phone reported one. */
function commonest(term: string, { values }: ValueCounts): readonly string[] {
  const version = values.find(({ value }) => value !== null)?.value
  if (!version) return []
  return [`${term}:${/^[\w.+-]+$/.test(version) ? version : `"${version.replaceAll('"', '*')}"`}`]
}
