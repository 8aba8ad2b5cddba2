/** POST /v1/devices/fcm-token: stores a device's push token. A token that differs or had died makes its commands due for push. */

import { MAX_FCM_TOKEN_LENGTH } from '../../domain/ids.ts'
import { asObject, requiredString } from '../../http/fields.ts'
import { type Endpoint, json } from '../../http/route.ts'
import type { Devices } from './feature.ts'

export function pushTokenEndpoint(deps: Devices): Endpoint<'device'> {
  return {
    async handle(request) {
      const fcmToken = requiredString(asObject(request.body), 'fcm_token', MAX_FCM_TOKEN_LENGTH)
      const { deviceId, alias, enrollmentNo, context } = request
      const device = { deviceId, enrollmentNo }
      const outcome = await deps.devices.setPushToken(device, fcmToken, context.requestId)
      if (outcome === 'superseded') throw deps.refuseDevice({ kind: outcome, deviceId, alias })
      if (outcome === 'changed') deps.wakeDispatcher()
      return json(200, { ok: true })
    },
  }
}
