/** The fake FCM of `simulate --fcm`: its port and service account stay the same between runs. */
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { asJsonObject, textOf } from '../../testkit/http/client.ts'
import { type FakeFcm, startFakeFcm } from '../fcm/fake-fcm.ts'
import type { KeyPair } from '../fcm/service-account.ts'

export interface SimulatedFcm {
  readonly push: FakeFcm
  /** Settings for the service, as `NAME=value`. */
  readonly environment: readonly string[]
}

/** Keeps the key in `accountPath`, so that a running service stays valid. Port 0: any free one. */
export async function startSimulatedFcm(port: number, accountPath: string): Promise<SimulatedFcm> {
  const path = resolve(accountPath)
  const keyPair = keptKeyPair(path)
  const push = await startFakeFcm({ port, ...(keyPair !== undefined && { keyPair }) })
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, push.serviceAccount.json, { mode: 0o600 })
  return {
    push,
    environment: [`GOOGLE_APPLICATION_CREDENTIALS=${path}`, `FCM_BASE_URL=${push.baseUrl}`],
  }
}

function keptKeyPair(path: string): KeyPair | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return undefined // the first run
  }
  const privateKey = createPrivateKey(textOf(asJsonObject(JSON.parse(text)) ?? {}, 'private_key'))
  return { privateKey, publicKey: createPublicKey(privateKey) }
}
