/** What all rows of a drill share: a database with devices and an APK, and the services' directory. */
import { join } from 'node:path'
import { makeApk } from '../../sim/apk.ts'
import { issueEnrollmentTokens, register } from '../../sim/enroll.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { seededDeviceId, seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { createSend, jsonHeaders, type Send } from '../../testkit/http/client.ts'
import { startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'

export interface Phone {
  readonly deviceId: string
  readonly token: string
}

export interface Environment {
  readonly databaseUrl: string
  readonly dataDir: string
  /** Phones of the honest load. */
  readonly phones: readonly Phone[]
  /** Phones whose tokens an attacker has. */
  readonly stolen: readonly Phone[]
  /** Its uses are consumed; it still authorizes downloads. */
  readonly usedEnrollmentToken: string
  readonly apkBytes: number
}

const HONEST_PHONES = 50
/** Enough to take every download slot with three each. */
export const STOLEN_PHONES = 100
/** More than the system buffers on a connection whose client has stopped reading. */
const APK_BYTES = 8_000_000

/** Starts a service, which migrates. The fleet is written by SQL, the rest goes through the API. */
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
    await service.stop()
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
  await register(send, 'ATTACKER', token)
  return token
}
