/** A heartbeat that answers a ping (`is_ping_response`) is that command's result too. */
import type { Request } from '../../http/route.ts'
import type { Devices } from './feature.ts'

/** False: no such command of this device, or a signature that does not hold. A heartbeat is never refused for it. */
export async function recordPing(
  deps: Devices,
  request: Request<'device-token'>,
  requestId: string,
  finishedAt: Date | null,
): Promise<boolean> {
  const device = await deps.authenticateDevice(request.tokenHash)
  if (device.kind !== 'live') return false
  const denial = deps.resultDenial(request.signed, device)
  if (denial !== undefined) {
    request.log(denial.line)
    return false
  }
  const { ingressId } = request.context
  const outcome = await deps.results.record({
    requestId,
    deviceId: device.deviceId,
    outcome: 'success',
    message: null,
    output: null,
    exitCode: null,
    finishedAt,
    httpRequestId: ingressId,
  })
  if (outcome.kind === 'unknown') return false
  deps.commandChanged(requestId)
  const { action, isLate } = outcome
  if (outcome.kind === 'recorded' && outcome.hasExpired) {
    const fields = { action, admin: outcome.admin, reason: 'ttl' }
    request.log({ event: 'command.expired', fields }, requestId)
  }
  const line = {
    event: 'action_result.ingest',
    fields: {
      action,
      outcome: 'success',
      duplicate: outcome.kind === 'duplicate',
      late: isLate,
      http_request_id: ingressId,
    },
  } as const
  request.log(line, requestId)
  return true
}
