/** POST /v1/devices/fcm-token: a device gives its push token. Another one, or one that died, makes its commands due for push. */

import type { DeviceStore } from '../../db/devices/devices.ts'
import { MAX_FCM_TOKEN_LENGTH } from '../../domain/ids.ts'
import { asObject, requiredString } from '../../http/fields.ts'
import { type DeviceRoute, json } from '../../http/route.ts'

export interface FcmTokenDeps {
  readonly devices: Pick<DeviceStore, 'setPushToken'>
  readonly refuseDevice: (verdict: { kind: 'superseded'; deviceId: string; alias: string }) => Error
  /** Something may be due for push now. */
  readonly wakeDispatcher: () => void
}

export function fcmTokenRoute(deps: FcmTokenDeps): DeviceRoute {
  return {
    method: 'POST',
    path: '/v1/devices/fcm-token',
    guard: 'device',
    body: 16 * 1024,
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
