/** Explains how far a job is and what keeps it: its verdict, its failures, what its open members wait for. */
import type { Api } from '../api/client.ts'
import type { Job, MemberStatus } from '../api/openapi.ts'
import { countsText, stateOf } from '../jobs/progress.ts'
import { ago } from '../terminal/ago.ts'
import { plain } from '../terminal/text.ts'
import { findCommand } from './command.ts'

/** Members that are shown of the failed and of the open ones. */
const MAX_MEMBERS = 3
const OPEN = ['push_failed', 'delivered', 'sent', 'queued'] as const

export function findJob(api: Api, jobId: string): Promise<Job | undefined> {
  return api.find('readJob', { path: { job_id: jobId } })
}

/** The job of a member that has no command yet: `night.7` of night. */
export async function findJobOfMember(api: Api, name: string): Promise<Job | undefined> {
  const [, jobId, n] = /^(.+)\.([1-9]\d{0,6})$/.exec(name) ?? []
  if (jobId === undefined) return undefined
  const job = await findJob(api, jobId)
  return job !== undefined && Number(n) <= job.devices ? job : undefined
}

export async function describeJob(api: Api, job: Job): Promise<readonly string[]> {
  const { job_id, action, devices, where, admin, created_at, verdict, note, counts } = job
  const params = Object.entries(job.params).map((pair) => ` ${pair.join('=')}`)
  const what = `${action}${params.join('')} for ${devices} phones (${where || 'every phone'})`
  const open = OPEN.find((status) => counts[status] > 0)
  return [
    `job ${job_id}: ${what}, ${stateOf(job)}; asked by ${admin} ${ago(created_at, api.now())}`,
    `  ${verdict.code}: ${verdict.detail}`,
    `  ${countsText(counts)}`,
    ...(note === null ? [] : [`  note: ${note}`]),
    ...(counts.failed > 0 ? await failures(api, job_id) : []),
    ...(open === undefined ? [] : await waiting(api, job_id, open)),
  ].map(plain)
}

async function failures(api: Api, jobId: string): Promise<readonly string[]> {
  const members = await membersOf(api, jobId, 'failed')
  return members.map((member) => {
    const { alias, request_id } = member
    const result = 'result' in member ? member.result : null
    const reason = [result?.outcome, result?.message].filter((part) => part).join(': ')
    return `  failed: ${alias} (${request_id}): ${reason}`
  })
}

async function waiting(
  api: Api,
  jobId: string,
  status: (typeof OPEN)[number],
): Promise<readonly string[]> {
  const lines: string[] = []
  for (const { alias, request_id } of await membersOf(api, jobId, status)) {
    const verdict = (await findCommand(api, request_id))?.verdict
    lines.push(`  open: ${alias} (${request_id}): ${verdict?.code}: ${verdict?.detail}`)
  }
  return lines
}

async function membersOf(api: Api, jobId: string, status: MemberStatus) {
  const request = { path: { job_id: jobId }, query: { status, limit: MAX_MEMBERS } }
  return (await api.call('listMembers', request)).commands
}
