/** The admin of the jobs drill: repeats each change until it is acknowledged, and reads progress. */
import { setTimeout as wait } from 'node:timers/promises'
import {
  asJsonObject,
  bodyOf,
  type HttpResponse,
  isSuccess,
  jsonHeaders,
  type Send,
  textOf,
} from '../../testkit/http/client.ts'

export interface JobView {
  readonly state: string
  readonly reason: string | null
  readonly devices: number
  readonly released: number
  readonly counts: Readonly<Record<string, number>>
  readonly verdict: { readonly code: string; readonly detail: string }
}

export interface JobsAdmin {
  /** Throws on a refusal. */
  change(path: string, body?: object): Promise<JobView>
  /** undefined: no replica answered. */
  read(jobId: string): Promise<JobView | undefined>
  /** Changes in the audit log, oldest first. */
  audited(jobId: string): Promise<readonly string[]>
}

const RETRY_MS = 100

function viewOf(response: HttpResponse): JobView {
  const body = bodyOf(response)
  const counts = Object.entries(asJsonObject(body['counts']) ?? {})
  const verdict = asJsonObject(body['verdict']) ?? {}
  const reason = body['reason']
  return {
    state: textOf(body, 'state'),
    reason: typeof reason === 'string' ? reason : null,
    devices: Number(body['devices']),
    released: Number(body['released']),
    counts: Object.fromEntries(counts.map(([status, count]) => [status, Number(count)])),
    verdict: { code: textOf(verdict, 'code'), detail: textOf(verdict, 'detail') },
  }
}

export function createJobsAdmin(send: Send, adminToken: string): JobsAdmin {
  const headers = jsonHeaders(adminToken)
  const get = (path: string) => send({ method: 'GET', path, headers }).catch(() => undefined)

  return {
    async change(path, body = {}) {
      const hasBody = path === '/admin/jobs' || path.endsWith('/abort')
      const request = { method: 'POST', path, headers } as const
      for (;;) {
        const response = await send(
          hasBody ? { ...request, body: JSON.stringify(body) } : request,
        ).catch(() => undefined)
        if (response !== undefined && isSuccess(response)) return viewOf(response)
        if (response !== undefined && response.status < 500 && response.status !== 408) {
          throw new Error(`${path} was refused: ${response.bytes}`)
        }
        await wait(RETRY_MS)
      }
    },
    async read(jobId) {
      const response = await get(`/admin/jobs/${jobId}`)
      return response !== undefined && isSuccess(response) ? viewOf(response) : undefined
    },
    async audited(jobId) {
      for (;;) {
        const response = await get(`/admin/audit?subject=${jobId}&limit=50`)
        const entries = response === undefined ? undefined : bodyOf(response)['audit']
        if (Array.isArray(entries)) return entries.map(({ what }) => String(what)).toReversed()
        await wait(RETRY_MS)
      }
    },
  }
}
