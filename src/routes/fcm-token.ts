/** POST /v1/devices/fcm-token: a device tells its push token; it replaces the old one, dead or not. */
import type { DeviceStore } from '../db/devices.ts'
import { asObject, requiredString } from '../http/fields.ts'
import { type DeviceRoute, json } from '../http/route.ts'

export interface FcmTokenDeps {
  readonly devices: Pick<DeviceStore, 'setPushToken'>
  /** Something may be due for push now. */
  readonly wakeDispatcher: () => void
}

const MAX_FCM_TOKEN_LENGTH = 4_096

export function fcmTokenRoute(deps: FcmTokenDeps): DeviceRoute {
  return {
    method: 'POST',
    path: '/v1/devices/fcm-token',
    guard: 'device',
    body: 16 * 1024,
    async handle(request) {
      const fcmToken = requiredString(asObject(request.body), 'fcm_token', MAX_FCM_TOKEN_LENGTH)
      await deps.devices.setPushToken(request.deviceId, fcmToken, request.context.requestId)
      deps.wakeDispatcher()
      return json(200, { ok: true })
    },
  }
}
