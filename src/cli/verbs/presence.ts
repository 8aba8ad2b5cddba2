/** Whether a phone counts as online. */
import type { Device } from '../api/openapi.ts'
import { isOffline } from '../why/phone.ts'

export const presence = (device: Device, now: Date) =>
  isOffline(device, now) ? 'offline' : 'online'
