/** Explains why a command has not run: the verdict and the steps so far. */
import type { Api } from '../api/client.ts'
import type { CommandStory } from '../api/openapi.ts'
import { ago } from '../terminal/ago.ts'
import { plain } from '../terminal/text.ts'

/** The last steps of a long timeline matter most. */
const MAX_STEPS = 12

export function findCommand(api: Api, requestId: string): Promise<CommandStory | undefined> {
  return api.find('readCommand', { path: { request_id: requestId } })
}

export function describeCommand(command: CommandStory, now: Date): readonly string[] {
  const { request_id, action, alias, admin, status, created_at, timeline, verdict } = command
  const steps = timeline.map(({ at, stage, code }) => `  ${at}  ${stage}${code ? ` ${code}` : ''}`)
  const leftOut = timeline.reduce((sum, { detail }) => sum + Number(detail?.['left_out'] ?? 0), 0)
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
