/** What tests of pipelined requests share. */
import { head, type RawConnection } from '../../helpers/raw.ts'
import { ADMIN, patiently, type Running } from '../../helpers/service.ts'

export const HEALTH = head('GET /healthz HTTP/1.1')
export const TOKENS = 'POST /v1/enroll-tokens HTTP/1.1'
export const ADMITTED = `Authorization: Bearer ${ADMIN}`

export const statuses = ({ answers: responses }: RawConnection) =>
  responses.map(({ status }) => status)

/** The lines of a request, once all that came before this are written. */
export async function linesOf(service: Running, requestId: string) {
  const fence = await service.call('GET', '/v1/nowhere')
  await service.lines.terminalOf(fence.requestId)
  return service.lines.all.filter((line) => line['request_id'] === requestId)
}

/** A request that is not answered before `end` is called. */
export async function awaited(service: Running, alias: string) {
  const device = await service.enroll(alias)
  const body = { device_id: device.deviceId, action: 'ring', request_id: alias }
  const { status } = await patiently(() => service.call('POST', '/admin/command', { body }))
  if (status !== 202) throw new Error(`no command: ${status}`)
  const path = `/admin/commands/${alias}`
  return {
    bytes: head(`GET ${path}?wait_ms=30000 HTTP/1.1`, ADMITTED, `X-Request-ID: waits-${alias}`),
    end: () => service.call('DELETE', path),
  }
}
