/** Explains why a command has not run: the verdict and the steps so far. */
import { ago } from './ago.ts'
import { type Api, plain } from './api.ts'

/** From GET /admin/commands/{request_id}. */
export interface Command {
  readonly request_id: string
  readonly device_id: string
  readonly alias: string
  readonly action: string
  readonly admin: string
  readonly status: string
  readonly created_at: string
  readonly expires_at: string
  readonly result: { readonly outcome: string; readonly message: string | null } | null
  readonly timeline: readonly {
    readonly at: string
    readonly stage: string
    readonly code: string | null
    readonly detail: { readonly left_out?: number } | null
  }[]
  readonly verdict: { readonly code: string; readonly detail: string }
}

/** The last steps of a long timeline matter most. */
const MAX_STEPS = 12

export function findCommand(api: Api, requestId: string): Promise<Command | undefined> {
  return api.get(`/admin/commands/${encodeURIComponent(requestId)}`)
}

export function describeCommand(command: Command, now: Date): readonly string[] {
  const { request_id, action, alias, admin, status, created_at, timeline, verdict } = command
  const steps = timeline.map(({ at, stage, code }) => `  ${at}  ${stage}${code ? ` ${code}` : ''}`)
  const leftOut = timeline.reduce((sum, { detail }) => sum + (detail?.left_out ?? 0), 0)
  const left = Math.max(0, steps.length - MAX_STEPS) + leftOut
  const message = command.result?.message
  return [
    `command ${request_id}: ${action} for ${alias}, ${status}; asked by ${admin} ${ago(created_at, now)}`,
    `  ${verdict.code}: ${plain(verdict.detail)}`,
    ...(message ? [`  the phone says: ${plain(message)}`] : []),
    ...(left > 0 ? [`  … ${left} earlier steps`] : []),
    ...steps.slice(-MAX_STEPS).map(plain),
  ]
}
