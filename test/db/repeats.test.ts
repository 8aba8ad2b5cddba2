/**
 * A commit that was cut short while it waited for a standby may be missing there. What says that it was done before makes
 * sure first: its own commit waits, even though it changes nothing.
 */
import { createHash } from 'node:crypto'
import t from 'tap'
import { apkStore } from '../../src/db/apks/apks.ts'
import { commandStore } from '../../src/db/commands/commands.ts'
import { deviceStore } from '../../src/db/devices/devices.ts'
import { deviceEraser } from '../../src/db/devices/erase.ts'
import { deviceLabelStore } from '../../src/db/devices/labels.ts'
import { enrollmentTokenStore } from '../../src/db/enrollment/tokens.ts'
import { jobStore } from '../../src/db/jobs/jobs.ts'
import type { Database, Queryable } from '../../src/db/postgres/pool.ts'
import { seededDeviceId, seededToken } from '../../testkit/database/seeded-fleet.ts'
import { memorySource } from '../../testkit/memory-source.ts'
import { tokenId as pushToken } from '../../testkit/push-id.ts'
import { HMAC_SECRET } from '../helpers/service.ts'
import { create, startJobs } from '../jobs/harness.ts'

const { pool } = await startJobs(t, 1)

const asked: string[] = []
const spied = (on: Queryable): Queryable => ({
  query(query) {
    asked.push(query.name)
    return on.query(query)
  },
})
const database: Database = {
  ...spied(pool),
  transaction: (work) => pool.transaction((tx) => work(spied(tx))),
}

const instance = 'replica'
const by = { admin: 'tester', requestId: 'r', ip: null, instance }
const deviceId = seededDeviceId(1)
const tokenId = seededDeviceId(2)
const phone = {
  deviceId,
  tokenHash: createHash('sha256')
    .update(seededToken({ id: 'default', secret: HMAC_SECRET }, 1))
    .digest(),
}
const offer = { pushId: pushToken('newer'), clockAt: new Date().toISOString(), replacesAt: '' }
const bytes = Buffer.from('some bytes')
const upload = {
  build: {
    ...{ buildId: 'b1', buildType: 'debug', versionCode: 1, versionName: null, gitSha: null },
    ...{ ciRunId: null, signerFingerprint: null, sizeBytes: bytes.length },
    sha256: createHash('sha256').update(bytes).digest(),
  },
  facts: {
    ...{ packageName: 'a.b', minSdk: 24, targetSdk: 34, isDebuggable: true },
    signing: 'none',
    signers: [],
  },
  ...{ replaced: [], isSignerAccepted: false, isStaged: true },
} as const
const command = {
  ...{ requestId: 'c', action: 'ping', params: {}, contentHash: Buffer.from('c'), ttlS: 60 },
  ...{ admin: 'tester', ip: null, instance, isPushOn: true },
}
const apks = apkStore(database)
const devices = deviceStore(database)
const jobs = jobStore(database, database)
const tokens = enrollmentTokenStore(database)
await enrollmentTokenStore(pool).issue([{ tokenId, tokenHash: Buffer.alloc(32), alias: null }], {
  ...{ expiresInS: 600, usesAllowed: 1, note: null, labels: {}, maxPerHour: 9, batch: undefined },
  ...by,
})

/** Each of them changes something the first time, and nothing the second time. */
const CHANGES: Readonly<Record<string, () => Promise<unknown>>> = {
  'a revocation': () => tokens.revoke(tokenId, by),
  'a command': () => commandStore(database).accept({ deviceId, alias: null }, command),
  'a job': () => create(jobs, 'twice', {}),
  'a pause': () => jobs.control('twice', 'pause', by, false),
  'an upload': () => apks.publish(upload, memorySource(bytes), by),
  'a release': () => apks.release('b1', by),
  'a withdrawal': () => apks.withdraw('b1', by),
  'a push identity': () => devices.setPushId({ deviceId, enrollmentNo: 1 }, pushToken('new'), 'r'),
  'a push identity of a heartbeat': () => devices.offerPushId(phone, offer, 'r'),
  'a label': () => deviceLabelStore(database, database).change(deviceId, { site: 'zrh' }, by),
  'a deletion': () => devices.delete(deviceId, by, () => {}),
  'an erasure': () => deviceEraser(database, { erase: async () => {} }).erase(deviceId, by),
}

for (const [what, change] of Object.entries(CHANGES)) {
  t.test(`${what}: a repeat waits for the standby as the first did`, async (t) => {
    const confirms = async () => {
      asked.length = 0
      await change()
      return asked.includes('settle.write_nothing')
    }
    t.equal(await confirms(), false)
    t.equal(await confirms(), true)
  })
}
