/**
 * The apps that the fake FCM knows, by address. An app on a phone is registered by a token or by its Firebase Installation ID,
 * never by both: registering by the FID ends the token, and asking for a token ends the FID's registration.
 */
import { createHash, randomBytes } from 'node:crypto'
import { type PushId, pushIdText } from '../../src/domain/delivery/push-id.ts'
import type { CommandData } from '../device/commands.ts'

export type Priority = 'high' | 'normal'

/** As RemoteMessage.getPriority() and getOriginalPriority() tell the app. */
export interface Delivery {
  readonly priority: Priority
  readonly originalPriority: Priority
}

export type Deliver = (data: CommandData, delivery: Delivery) => void

/** One installation of the app. */
export interface PhoneApp {
  /** Registers by a new token, as getToken() does. Ends the FID's registration and the previous token. */
  newToken(): PushId
  /** Registers by the FID, always the same one. Ends the token. */
  registerFid(): PushId
  /** Whether FCM delivers its high-priority messages at normal priority from now on. */
  setLowered(isLowered: boolean): void
}

/** Of all sends to one address. */
const QUOTA_WINDOW_MS = 60_000

export interface KnownApps {
  register(address: PushId, deliver: Deliver): void
  unregister(address: PushId): void
  install(name: string, deliver: Deliver): PhoneApp
  /** Hands over a message; returns a function that does, or undefined for an address that is not registered. */
  find(address: PushId): Deliver | undefined
  /** Counts a send; true if it exceeds the quota of that address. */
  exceeds(address: PushId, mostPerMinute: number, nowMs: number): boolean
}

export function createApps(): KnownApps {
  const apps = new Map<string, Deliver>()
  const sends = new Map<string, number[]>()
  const register = (address: PushId, deliver: Deliver) =>
    void apps.set(pushIdText(address), deliver)
  const unregister = (address: PushId) => void apps.delete(pushIdText(address))

  return {
    register,
    unregister,
    find: (address) => apps.get(pushIdText(address)),

    install(name, deliver) {
      const fid: PushId = { kind: 'fid', value: fidOf(name) }
      let current: PushId | undefined
      let isLowered = false
      const replace = (next: PushId) => {
        if (current !== undefined) unregister(current)
        current = next
        register(next, (data, delivery) =>
          deliver(data, isLowered ? { ...delivery, priority: 'normal' } : delivery),
        )
        return next
      }
      return {
        newToken: () =>
          replace({
            kind: 'token',
            value: `${fid.value}:APA91b${randomBytes(99).toString('base64url')}`,
          }),
        registerFid: () => replace(fid),
        setLowered(isIt) {
          isLowered = isIt
        },
      }
    },

    exceeds(address, mostPerMinute, nowMs) {
      const key = pushIdText(address)
      const recent = (sends.get(key) ?? []).filter((atMs) => nowMs - atMs < QUOTA_WINDOW_MS)
      recent.push(nowMs)
      sends.set(key, recent)
      return recent.length > mostPerMinute
    },
  }
}

/** 17 bytes in base64url; the first four bits are 0111, as in Google's SDKs. */
export function fidOf(name: string): string {
  const bytes = createHash('sha256').update(`fid:${name}`).digest().subarray(0, 17)
  bytes[0] = 0x70 | ((bytes[0] ?? 0) & 0x0f)
  return bytes.toString('base64url').slice(0, 22)
}
