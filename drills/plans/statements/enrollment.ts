/** Registrations, device tokens, push tokens, labels, deletion of a device. */
import { randomUUID } from 'node:crypto'
import { deviceTokenStore } from '../../../src/db/devices/device-tokens.ts'
import { deviceStore } from '../../../src/db/devices/devices.ts'
import { deviceEraser } from '../../../src/db/devices/erase.ts'
import { deviceLabelStore } from '../../../src/db/devices/labels.ts'
import { register } from '../../../src/db/enrollment/registration.ts'
import { storeHeartbeats } from '../../../src/db/heartbeats/heartbeats.ts'
import { historyStore } from '../../../src/db/heartbeats/history.ts'
import { hmacSecretStore } from '../../../src/db/hmac-secrets.ts'
import type { Database, Query, Result } from '../../../src/db/postgres/pool.ts'
import { usedSignatures } from '../../../src/db/used-signatures.ts'
import { AppError } from '../../../src/domain/errors.ts'
import { parseSelection } from '../../../src/domain/selection/parse.ts'
import { tokenId } from '../../../testkit/push-id.ts'
import { CROWDED, deviceId, enrollmentHash, type Installation, tokenHash } from '../installation.ts'
import { enrollmentTokenStatements } from './enrollment-tokens.ts'
import { BY, group } from './push.ts'
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
export function enrollmentStatements({
  devices,
  crowded,
  feed,
}: Installation): readonly Statement[] {
  return [
    ...enrollmentTokenStatements(),
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
      run: (database) => setPushId(database, 'new'),
      index: 'commands_mailbox',
      mostRows: 20,
    },
    {
      title: 'known push token',
      modes: BOTH,
      run: (database) => setPushId(database, 'push-S1'),
      index: 'commands_mailbox',
      mostRows: 20,
    },
    {
      title: 'push token of a heartbeat',
      modes: BOTH,
      async run(database) {
        await offerPushId(database, 'new')
        await offerPushId(database, 'new')
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
      title: 'heartbeats of a device, and their steps',
      modes: ['custom'],
      async run(database) {
        const page = { limit: 51, after: null }
        const since = new Date(Date.now() - 7 * 86_400_000).toISOString()
        const history = historyStore(database, 10)
        await history.read(deviceId(1), page, { since, until: null })
        await history.steps(deviceId(1), page, { since, until: null }, 3_600)
      },
      mostRows: 0,
      mostPages: 2 * 8_640 * 8, // of today each of its windows is found and looked up, for each of the two
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
      title: 'a deleted device erased, and erased again',
      modes: BOTH,
      async run(database) {
        const history = historyStore(database, 10)
        const eraser = deviceEraser(database, history)
        await deviceStore(database).delete(deviceId(1), BY, () => {})
        await deviceStore(database).delete(deviceId(1), BY, () => {})
        await eraser.erase(deviceId(1), BY)
        await eraser.erase(deviceId(1), BY)
      },
      mostRows: 1_500 + feed, // events are not looked up by their device
      mostPages: 12_000 + Math.ceil(feed / 20),
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

function setPushId(database: Database, token: string) {
  const device = { deviceId: deviceId(1), enrollmentNo: 1 }
  return deviceStore(database).setPushId(device, tokenId(token), 'r')
}

function offerPushId(database: Database, token: string) {
  const device = { deviceId: deviceId(1), tokenHash: tokenHash(1) }
  const offer = { pushId: tokenId(token), clockAt: new Date().toISOString(), replacesAt: '' }
  return deviceStore(database).offerPushId(device, offer, 'r')
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
      ...{ pushId: tokenId('new'), appVersion: null, sdkInt: null },
      enrollmentTokenHash: enrollmentHash(token),
      newDeviceId: randomUUID(),
    },
    () => {},
  )
  if (!('deviceId' in outcome)) throw new Error(`not enrolled: ${outcome.kind}`)
  return deviceTokenHash
}
