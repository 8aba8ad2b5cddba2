/** Records how a command went, whether /v1/action-result or a heartbeat that answers a ping reports it. */
import type { CommandResult } from '../../db/commands/results.ts'
import { isLowered, type PushReport } from '../../domain/delivery/push-report.ts'
import type { BaseRequest } from '../../http/route.ts'
import type { Results } from './feature.ts'

export interface RecordedResult {
  /** An earlier result of this command stands. */
  readonly isDuplicate: boolean
  /** `action_result.ingest`; for the caller to write. */
  readonly line: Parameters<BaseRequest['log']>[0]
}

/**
 * `ignored` names unusable fields. undefined: the device has no such command. Writes `command.expired` where the result found
 * it expired.
 */
export async function recordResult(
  deps: Results,
  request: BaseRequest,
  result: Omit<CommandResult, 'httpRequestId'>,
  ignored: readonly string[] = [],
): Promise<RecordedResult | undefined> {
  const { requestId, outcome } = result
  const { ingressId } = request.context
  const recorded = await deps.results.record({ ...result, httpRequestId: ingressId })
  if (recorded.kind === 'unknown') return undefined
  deps.commandChanged(requestId)
  if (recorded.kind === 'recorded' && result.push !== null) {
    await notePush(deps, result, result.push)
  }
  const { action, isLate } = recorded
  if (recorded.kind === 'recorded' && recorded.hasExpired) {
    const fields = { action, admin: recorded.admin, reason: 'ttl' }
    request.log({ event: 'command.expired', fields }, requestId)
  }
  const isDuplicate = recorded.kind === 'duplicate'
  return {
    isDuplicate,
    line: {
      event: 'action_result.ingest',
      fields: {
        action,
        outcome,
        duplicate: isDuplicate,
        late: isLate,
        ignored: ignored.length === 0 ? null : ignored,
        http_request_id: ingressId,
      },
    },
  }
}

/** Once for each command: with its first result, which is durable by then. Never rejects: without the database, the delay is unknown. */
async function notePush(
  { pushReports, pushMetrics }: Results,
  command: { readonly requestId: string; readonly deviceId: string },
  report: PushReport,
): Promise<void> {
  const delayMs = await pushReports.note(command, report).catch(() => null)
  if (isLowered(report)) pushMetrics.deprioritized.add()
  if (delayMs !== null) pushMetrics.delay.observe(delayMs)
  else if (report.receivedAt !== null) pushMetrics.delayUnknown.add()
}
