/** The keys that commands are signed with, one for each enrollment of a device. */
import { commandKey } from '../domain/delivery/command-message.ts'
import type { HmacSecret } from '../domain/identity.ts'

/** What a device's key is made from. */
export interface KeyOwner {
  readonly deviceId: string
  readonly enrollmentNo: number
  readonly hmacSecretId: string
}

export interface CommandKeys {
  /** undefined: a secret that only another replica has; start-up refuses to lack one that devices use. */
  readonly find: (device: KeyOwner) => string | undefined
  /** Throws where `find` finds none. */
  readonly get: (device: KeyOwner) => string
}

export function createCommandKeys(hmacSecrets: readonly HmacSecret[]): CommandKeys {
  const secrets = new Map(hmacSecrets.map(({ id, secret }) => [id, secret]))
  function find({ deviceId, enrollmentNo, hmacSecretId }: KeyOwner): string | undefined {
    const secret = secrets.get(hmacSecretId)
    return secret && commandKey(secret, deviceId, enrollmentNo)
  }
  return {
    find,
    get(device) {
      const key = find(device)
      if (key === undefined) {
        throw new Error(`HMAC secret ${device.hmacSecretId} is not configured`)
      }
      return key
    },
  }
}
