/** Enrollment tokens, registrations, device tokens, push tokens, deletion of a device. */
import { randomUUID } from 'node:crypto'
import { deviceTokenStore } from '../../src/db/devices/device-tokens.ts'
import { deviceStore } from '../../src/db/devices/devices.ts'
import { deviceLabelStore } from '../../src/db/devices/labels.ts'
import { register } from '../../src/db/enrollment/registration.ts'
import { enrollmentTokenStore } from '../../src/db/enrollment/tokens.ts'
import { storeHeartbeats } from '../../src/db/heartbeats/heartbeats.ts'
import { hmacSecretStore } from '../../src/db/hmac-secrets.ts'
import type { Database, Query, Result } from '../../src/db/postgres/pool.ts'
import { usedSignatures } from '../../src/db/used-signatures.ts'
import { AppError } from '../../src/domain/errors.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import {
  BUSY_ADMIN,
  CROWDED,
  deviceId,
  enrollmentHash,
  type Installation,
  ISSUED,
  tokenHash,
} from './installation.ts'
import { BY, group } from './push-statements.ts'
import { BOTH, type Statement } from './statement.ts'

const SELECTION_CONTEXT = { offlineAfterS: 1_500, isPushOn: true }
const LABELLED = {
  where: 'alias:S1,S2,S3,S4',
  selection: parseSelection('alias:S1,S2,S3,S4'),
  labels: { site: 'zrh' },
  expectDevices: 4,
}
const labelsOf = (database: Database) => deviceLabelStore(database, database)

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table
export function enrollmentStatements({ devices, crowded }: Installation): readonly Statement[] {
  return [
    ...enrollmentTokens(),
    {
      title: 'registration of a new device',
      modes: BOTH,
      run: (database) => enroll(database, 'busy-1', 'NEW'),
      index: 'devices_live_alias',
      mostRows: 8,
    },
    {
      title: 'registration again, then its answer lost',
      modes: BOTH,
      async run(database) {
        await enroll(database, 'bound-1', 'S1')
        await enroll(database, 'bound-1', 'S1')
      },
      index: 'device_tokens_device',
      mostRows: 40,
    },
    {
      title: 'device token judged',
      modes: BOTH,
      run: (database) => deviceTokenStore(database).authenticate(tokenHash(1)),
      index: 'device_tokens_pkey',
      mostRows: 1,
    },
    {
      title: 'first use of a device token',
      modes: BOTH,
      async run(database) {
        const token = await enroll(database, 'bound-1', 'S1')
        await deviceTokenStore(database).authenticate(token)
      },
      index: 'device_tokens_device',
      mostRows: 40,
    },
    {
      title: 'heartbeats that others hold up',
      modes: BOTH,
      async run(database) {
        await storeHeartbeats(heldUp(database), 10, 300)(group(devices)).catch(() => {})
      },
      mostRows: 0,
      mostPages: 1_000,
    },
    {
      title: 'new push token',
      modes: BOTH,
      run: (database) => setPushToken(database, 'new'),
      index: 'commands_mailbox',
      mostRows: 20,
    },
    {
      title: 'known push token',
      modes: BOTH,
      run: (database) => setPushToken(database, 'push-S1'),
      index: 'devices_pkey',
      mostRows: 0,
    },
    {
      title: 'push token of a heartbeat',
      modes: BOTH,
      async run(database) {
        await offerPushToken(database, 'new')
        await offerPushToken(database, 'new')
      },
      index: 'devices_pkey',
      mostRows: 20,
    },
    {
      title: 'one device',
      modes: BOTH,
      run: (database) => deviceStore(database).find(deviceId(1)),
      index: 'devices_pkey',
      mostRows: 0,
    },
    {
      title: 'labels of a device, set and set again',
      modes: BOTH,
      async run(database) {
        await labelsOf(database).change(deviceId(1), { site: 'zrh' }, BY)
        await labelsOf(database).change(deviceId(1), { site: 'zrh' }, BY)
      },
      index: 'devices_pkey',
      mostRows: 0,
    },
    {
      title: 'labels of a selection',
      modes: BOTH,
      run: (database) => labelsOf(database).changeSelected(LABELLED, SELECTION_CONTEXT, BY),
      mostRows: 0,
      mostPages: 300,
    },
    {
      title: 'is there any device?',
      modes: BOTH,
      run: (database) => deviceStore(database).exist(),
      mostRows: 0,
      mostPages: 20,
    },
    {
      title: 'deletion of a device',
      modes: BOTH,
      run: (database) => deviceStore(database).delete(deviceId(1), BY, () => {}),
      index: 'commands_mailbox',
      mostRows: 60,
    },
    {
      title: 'deletion of a device with many open commands',
      modes: BOTH,
      run: (database) => deviceStore(database).delete(deviceId(CROWDED), BY, () => {}),
      index: 'commands_mailbox',
      mostRows: 6 * (crowded + 50),
      mostPages: 60 * (crowded + 50),
    },
    {
      title: 'secrets in use',
      modes: BOTH,
      run: (database) =>
        hmacSecretStore(database).check([{ id: 'default', fingerprint: tokenHash(1) }]),
      index: 'devices_hmac_secret',
      mostRows: 0,
      mostPages: 40,
    },
    {
      title: 'used signature',
      modes: BOTH,
      run: (database) => usedSignatures(database).remember(tokenHash(1)),
      mostRows: 0,
      mostPages: 60,
    },
  ]
}

/** A batch may read every token issued within the hour, by any admin. */
function enrollmentTokens(): readonly Statement[] {
  const store = (database: Database) => enrollmentTokenStore(database)
  const token = { tokenId: randomUUID(), tokenHash: tokenHash(0), alias: null }
  const about = { expiresInS: 60, usesAllowed: 1, note: null, labels: {}, maxPerHour: 200 }
  const options = { ...BY, ...about, batch: undefined }
  const many = Array.from({ length: 64 }, (_, n) => enrollmentHash(`busy-${n + 1}`))
  const batch = { idempotencyKey: 'key-7', contentHash: tokenHash(0), seed: tokenHash(0) }
  return [
    {
      title: 'batch of enrollment tokens',
      modes: BOTH,
      run: (database) => store(database).issue([token], options),
      mostRows: 100 + ISSUED,
    },
    {
      title: 'batch of enrollment tokens beyond the limit',
      modes: BOTH,
      run: (database) => store(database).issue([token], { ...options, admin: BUSY_ADMIN }),
      index: 'enrollment_tokens_by_admin',
      mostRows: 2 * options.maxPerHour,
    },
    {
      title: 'batch of enrollment tokens, its Idempotency-Key used',
      modes: BOTH,
      run: (database) => store(database).issue([token], { ...options, batch }),
      index: 'enrollment_batches_pkey',
      mostRows: 2,
    },
    {
      title: 'batch of enrollment tokens, its Idempotency-Key new',
      modes: BOTH,
      run: (database) =>
        store(database).issue([token], { ...options, batch: { ...batch, idempotencyKey: 'new' } }),
      index: 'enrollment_batches_pkey',
      mostRows: 100 + ISSUED,
    },
    {
      title: 'enrollment token judged',
      modes: BOTH,
      run: (database) => store(database).judge(tokenHash(0)),
      index: 'enrollment_tokens_token_hash_key',
      mostRows: 1,
    },
    {
      title: 'many enrollment tokens judged',
      modes: BOTH,
      run: (database) => store(database).judgeAll(many),
      index: 'enrollment_tokens_token_hash_key',
      mostRows: many.length,
    },
    {
      title: 'enrollment token revoked, and again',
      modes: BOTH,
      async run(database) {
        const verdict = await store(database).judge(enrollmentHash('busy-1'))
        if (verdict.kind === 'unknown') throw new Error('busy-1 is not there')
        await store(database).revoke(verdict.tokenId, BY)
        await store(database).revoke(verdict.tokenId, BY)
      },
      index: 'enrollment_tokens_pkey',
      mostRows: 8,
    },
  ]
}

function setPushToken(database: Database, fcmToken: string) {
  const device = { deviceId: deviceId(1), enrollmentNo: 1 }
  return deviceStore(database).setPushToken(device, fcmToken, 'r')
}

function offerPushToken(database: Database, fcmToken: string) {
  const device = { deviceId: deviceId(1), tokenHash: tokenHash(1) }
  const offer = { fcmToken, clockAt: new Date().toISOString(), replacesAt: '' }
  return deviceStore(database).offerPushToken(device, offer, 'r')
}

/** Refuses groups of heartbeats, as another transaction's lock does. */
function heldUp(database: Database): Database {
  return {
    ...database,
    query<Row extends object>(query: Query): Promise<Result<Row>> {
      if (query.name !== 'heartbeats.store_group') return database.query<Row>(query)
      const cause = Object.assign(new Error('lock timeout'), { code: '55P03' })
      throw new AppError('overloaded', 'held up', { cause })
    },
  }
}

/** Resolves with the hash of the new device token. */
async function enroll(database: Database, token: string, alias: string): Promise<Buffer> {
  const deviceTokenHash = enrollmentHash(randomUUID())
  const outcome = await register(
    database,
    {
      ...{ alias, deviceTokenHash, hmacSecretId: 'default', requestId: 'r', ip: null },
      ...{ hardwareId: 'f3a9c1d47b20', model: 'm', manufacturer: 'f', androidVersion: '14' },
      ...{ fcmToken: 'new', appVersion: null, sdkInt: null },
      enrollmentTokenHash: enrollmentHash(token),
      newDeviceId: randomUUID(),
    },
    () => {},
  )
  if (!('deviceId' in outcome)) throw new Error(`not enrolled: ${outcome.kind}`)
  return deviceTokenHash
}
