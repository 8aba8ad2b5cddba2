/** A heartbeat that answers a ping (`is_ping_response`) is also the result of that command. */
import type { Heartbeat } from '../../domain/heartbeat.ts'
import type { Request } from '../../http/route.ts'
import { recordResult } from '../commands/record-result.ts'
import type { Devices } from './feature.ts'

/** False: no such command of this device, or a wrong signature. Neither refuses the heartbeat. */
export async function recordPing(
  deps: Devices,
  request: Request<'device-token'>,
  requestId: string,
  { reportedAt: finishedAt, push }: Heartbeat,
): Promise<boolean> {
  const device = await deps.authenticateDevice(request.tokenHash)
  if (device.kind !== 'live') return false
  const denial = deps.resultDenial(request.signed, device)
  if (denial !== undefined) {
    request.log(denial.line)
    return false
  }
  const recorded = await recordResult(deps, request, {
    requestId,
    deviceId: device.deviceId,
    outcome: 'success',
    message: null,
    output: null,
    exitCode: null,
    finishedAt,
    push,
  })
  if (recorded !== undefined) request.log(recorded.line, requestId)
  return recorded !== undefined
}
