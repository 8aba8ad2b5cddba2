/** What all rows of a drill share: a database with devices and an APK in it, and where services keep their files. */
import { join } from 'node:path'
import { makeApk } from '../../sim/apk.ts'
import { registrationBody } from '../../sim/device/body.ts'
import { issueEnrollmentTokens } from '../../sim/fleet.ts'
import { createSend, jsonHeaders, type Send } from '../../testkit/http/client.ts'
import { withClient } from '../../testkit/postgres.ts'
import { seededDeviceId, seededToken, seedFleet } from '../../testkit/seeded-fleet.ts'
import { startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'

export interface Phone {
  readonly deviceId: string
  readonly token: string
}

export interface Environment {
  readonly databaseUrl: string
  readonly dataDir: string
  /** Of the honest load. */
  readonly phones: readonly Phone[]
  /** Whose tokens an attacker has. */
  readonly stolen: readonly Phone[]
  /** All its uses are consumed; still good for downloads. */
  readonly usedEnrollmentToken: string
  readonly apkBytes: number
}

const HONEST_PHONES = 50
/** Three downloads each take every place there is. */
export const STOLEN_PHONES = 100
/** More than the system's buffers of a connection take in where nobody reads. */
const APK_BYTES = 8_000_000

/** By a service that ends again: it migrates, and the rest goes through its API but the fleet, which is written as it is. */
export async function prepareEnvironment(databaseUrl: string, dir: string): Promise<Environment> {
  const dataDir = join(dir, 'data')
  const service = startReplica({ settings: serviceSettings(databaseUrl, dataDir) })
  try {
    await service.ready
    const send = createSend(await service.origin)
    await withClient(databaseUrl, (db) => seedFleet(db, HMAC_SECRET, HONEST_PHONES + STOLEN_PHONES))
    const phones = Array.from({ length: HONEST_PHONES + STOLEN_PHONES }, (_, index) => ({
      deviceId: seededDeviceId(index + 1),
      token: seededToken(HMAC_SECRET, index + 1),
    }))
    await publish(send)
    return {
      databaseUrl,
      dataDir,
      phones: phones.slice(0, HONEST_PHONES),
      stolen: phones.slice(HONEST_PHONES),
      usedEnrollmentToken: await useUp(send),
      apkBytes: APK_BYTES,
    }
  } finally {
    service.signal('SIGTERM')
    await service.ended
  }
}

async function publish(send: Send): Promise<void> {
  const { status } = await send({
    method: 'PUT',
    path: '/admin/apk/builds/attacks?version_code=1',
    headers: jsonHeaders(ADMIN_TOKEN),
    body: makeApk({ sizeBytes: APK_BYTES }),
  })
  if (status !== 201) throw new Error(`the APK was answered with ${status}`)
}

async function useUp(send: Send): Promise<string> {
  const [token = ''] = (await issueEnrollmentTokens(send, ADMIN_TOKEN, ['ATTACKER'])).values()
  const { status } = await send({
    method: 'POST',
    path: '/v1/register',
    headers: jsonHeaders(token),
    body: registrationBody('ATTACKER', null),
  })
  if (status !== 201) throw new Error(`the registration was answered with ${status}`)
  return token
}
