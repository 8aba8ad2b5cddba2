/**
 * POST /v1/devices/push-id, also served as /v1/devices/fcm-token: stores a device's push identity. One that differs or had
 * died makes its commands due for push.
 */
import { invalidField } from '../../domain/errors.ts'
import { asObject } from '../../http/fields.ts'
import { type Endpoint, json } from '../../http/route.ts'
import type { Devices } from './feature.ts'
import { readPushId } from './push-id-body.ts'

export function pushIdEndpoint(deps: Devices): Endpoint<'device'> {
  return {
    async handle(request) {
      const { pushId, ignored } = readPushId(asObject(request.body))
      if (pushId === null) throw invalidField('fcm_token', 'is required, or fid')
      const { deviceId, alias, enrollmentNo, context } = request
      const device = { deviceId, enrollmentNo }
      const outcome = await deps.devices.setPushId(device, pushId, context.requestId)
      if (outcome === 'superseded') throw deps.refuseDevice({ kind: outcome, deviceId, alias })
      if (outcome === 'changed') deps.wakeDispatcher()
      return json(200, { ok: true, ignored })
    },
  }
}
