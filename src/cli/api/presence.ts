/** Whether a phone counts as online. */
import { isOffline } from '../why/phone.ts'
import type { Device } from './openapi.ts'

export const presence = (device: Device, now: Date) =>
  isOffline(device, now) ? 'offline' : 'online'
