/** Requests that wait while somebody changes what their token is worth: they are judged by what holds afterwards. */
import { createHash, randomUUID } from 'node:crypto'
import t from 'tap'
import { commandStore } from '../../src/db/commands/commands.ts'
import { mailbox } from '../../src/db/commands/mailbox.ts'
import { deviceTokenStore } from '../../src/db/devices/device-tokens.ts'
import { deviceStore } from '../../src/db/devices/devices.ts'
import { register } from '../../src/db/enrollment/registration.ts'
import {
  type HeartbeatItem,
  type HeartbeatResult,
  type PushIdOffer,
  storeHeartbeats,
} from '../../src/db/heartbeats/heartbeats.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import type { PushId } from '../../src/domain/delivery/push-id.ts'
import { heartbeatItem } from '../../testkit/database/heartbeat-item.ts'
import { tokenId } from '../../testkit/push-id.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, startService } from '../helpers/service.ts'

const service = await startService(t)
const db = await connect(t, service.databaseUrl)
const watcher = await connect(t, service.databaseUrl)

/** As a replica has it, with longer waits: here a lock is held until the next request waits for it, however slow the machine. */
function pool(): Pool {
  const one = new Pool({
    url: service.databaseUrl,
    isPrepared: true,
    maxConnections: 1,
    lockTimeoutMs: 30_000,
    queryTimeoutMs: 40_000,
    connectTimeoutMs: 40_000,
    serverSettings: { plan_cache_mode: 'force_generic_plan' },
  })
  t.teardown(() => one.close(1_000))
  return one
}

const pools = [pool(), pool()] as const
/** Of what happens beside heartbeats: the service itself would give up after 500 ms, and a phone would ask again. */
const beside = pool()
const stores = pools.map((one) => storeHeartbeats(one, 10, 300))
const tokens = pools.map((one) => deviceTokenStore(one))
const devices = deviceStore(beside)
const hash = (token: string) => createHash('sha256').update(token).digest()

function item(
  token: string,
  pushToken: string | null = null,
  reportedAt: Date | null = null,
): HeartbeatItem {
  return heartbeatItem(hash(token), 'race', {
    pushId: pushToken === null ? null : tokenId(pushToken),
    reportedAt,
  })
}

/** What becomes of heartbeats of one group, as the route has it: a token that it does not recognize is judged, once each. */
async function group(items: readonly HeartbeatItem[], replica: 0 | 1 = 0): Promise<string[]> {
  const responses = (await stores[replica]?.(items)) ?? []
  const kinds: string[] = []
  for (const [index, { kind }] of responses.entries()) {
    const [one] = items.slice(index)
    const verdict = kind === 'stored' ? undefined : await judged(one, replica)
    if (verdict === 'live' && one !== undefined) kinds.push(...(await group([one], replica)))
    else kinds.push(verdict ?? kind)
  }
  return kinds
}

async function judged(one: HeartbeatItem | undefined, replica: 0 | 1): Promise<string | undefined> {
  return one && (await tokens[replica]?.authenticate(one.tokenHash))?.kind
}

/** A token that enrolls `alias` again. */
async function reEnrollment(alias: string): Promise<string> {
  const body = { aliases: [alias] }
  return (await service.call('POST', '/v1/enroll-tokens', { body })).body.tokens[0].token
}

/** Each device here, so that it may ask for a lost answer. */
const PHONE = { hardware_id: 'H1' }

/** As the route has it; answers the device token. */
async function enroll(enrollmentToken: string, pushToken: string | null = null): Promise<string> {
  const token = randomUUID()
  const unknown = { appVersion: null, model: null, manufacturer: null, androidVersion: null }
  const outcome = await register(
    beside,
    {
      ...unknown,
      sdkInt: null,
      hardwareId: PHONE.hardware_id,
      pushId: pushToken === null ? null : tokenId(pushToken),
      enrollmentTokenHash: hash(enrollmentToken),
      alias: null,
      newDeviceId: randomUUID(),
      deviceTokenHash: hash(token),
      hmacSecretId: 'default',
      requestId: 'race',
      ip: null,
    },
    () => {},
  )
  if (!('deviceId' in outcome)) throw new Error(outcome.kind)
  return token
}

const again = ({ enrollmentToken }: Enrolled) => enroll(enrollmentToken)

/** Resolves when so many sessions wait for a lock. */
async function waiting(count: number): Promise<void> {
  const text = `select count(*)::int as n from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'`
  while ((await watcher.query(text)).rows[0].n < count) {}
}

const BY = { admin: 'tester', requestId: 'race', ip: null, instance: 'race' }
const STATUS = 'select from device_status where device_id = $1 for no key update'

/** Holds what `lock` names, has each of `asks` wait in this order, lets go, and gives their answers. */
async function inTurn<Answers extends readonly unknown[]>(
  [lock, id]: readonly [lock: string, id: string],
  ...asks: { readonly [K in keyof Answers]: () => Promise<Answers[K]> }
): Promise<Answers> {
  await db.query('begin')
  await db.query(lock, [id])
  const asked: Promise<unknown>[] = []
  for (const ask of asks) {
    asked.push(ask())
    await waiting(asked.length)
  }
  await db.query('commit')
  return Promise.all(asked) as unknown as Answers // in the order of asks
}

async function row({ deviceId }: Enrolled) {
  return (await db.query('select * from devices where device_id = $1', [deviceId])).rows[0]
}

t.test('a token that is used while its sibling is made stays, and the sibling ends', async (t) => {
  const device = await service.enroll('sibling', PHONE)
  const [second, first] = await inTurn(
    [STATUS, device.deviceId],
    () => again(device),
    () => group([item(device.token)]),
  )
  t.same(first, ['stored'])
  t.same(await group([item(second)]), ['superseded'])
  t.same(await group([item(device.token)]), ['stored'])
  t.match(await deviceTokenStore(pools[0]).authenticate(hash(second)), { kind: 'superseded' })
})

t.test('so it is where another route uses the sibling', async (t) => {
  const device = await service.enroll('sibling-route', PHONE)
  const [second] = await inTurn(
    [STATUS, device.deviceId],
    () => again(device),
    () => group([item(device.token)]),
  )
  const { authenticate } = deviceTokenStore(pools[0])
  t.match(await authenticate(hash(second)), { kind: 'superseded' })
  t.match(await authenticate(hash(device.token)), { kind: 'live' })
  t.match(await authenticate(hash(second)), { kind: 'superseded' })
})

t.test('a token is recognized from its first use on, and until another takes over', async (t) => {
  const device = await service.enroll('known')
  const kinds = async (token: string) =>
    ((await stores[0]?.([item(token)])) ?? []).map(({ kind }) => kind)
  t.same(await kinds(device.token), ['unrecognized'], 'never used')
  t.same(await group([item(device.token)]), ['stored'])
  t.same(await kinds(device.token), ['stored'])
  // As a replica of a release before 0007 leaves it.
  await db.query('update device_status set token_hash = null where device_id = $1', [
    device.deviceId,
  ])
  t.same(await kinds(device.token), ['unrecognized'])
  t.same(await group([item(device.token)]), ['stored'], 'found again by its first heartbeat')
  // A re-enrollment by such a release: the number alone tells.
  await db.query('update devices set enrollment_no = 7 where device_id = $1', [device.deviceId])
  t.same(await kinds(device.token), ['unrecognized'])
})

t.test('a heartbeat behind a re-enrollment is superseded and changes nothing', async (t) => {
  const device = await service.enroll('behind', { fcm_token: 'old' })
  t.same(await group([item(device.token)]), ['stored'])
  const enrollmentToken = await reEnrollment('behind')
  const [enrolled, late] = await inTurn(
    [STATUS, device.deviceId],
    () => enroll(enrollmentToken, 'new'),
    () => group([item(device.token, 'late')]),
  )
  t.same(late, ['superseded'])
  t.match(await row(device), { fcm_token: 'new', enrollment_no: 2 })
  t.same(await group([item(enrolled)]), ['stored'])
})

t.test('a heartbeat behind a deletion is deleted and brings no push token', async (t) => {
  for (const isUsed of [true, false]) {
    const device = await service.enroll('gone', { fcm_token: 'old' })
    if (isUsed) t.same(await group([item(device.token)]), ['stored'])
    const other = await service.enroll(`beside-${isUsed}`)
    const [, late] = await inTurn(
      [STATUS, device.deviceId],
      () => devices.delete(device.deviceId, BY, () => {}),
      () => group([item(device.token, 'late'), item(other.token)]),
    )
    t.same(late, ['deleted', 'stored'])
    t.match(await row(device), { fcm_token: null, deleted_at: Date })
  }
})

t.test('a heartbeat behind one of the same token on another replica is stored', async (t) => {
  const device = await service.enroll('twice')
  for (const _ of ['first use', 'used']) {
    const responses = await inTurn(
      [STATUS, device.deviceId],
      () => group([item(device.token)], 0),
      () => group([item(device.token)], 1),
    )
    t.same(responses, [['stored'], ['stored']])
  }
})

t.test(
  'of never-used siblings that are used at once one stays, the others are superseded',
  async (t) => {
    for (let round = 0; round < 10; round += 1) {
      const device = await service.enroll(`at-once-${round}`, PHONE)
      const siblings = [await again(device), device.token, await again(device)]
      const used = await Promise.all(
        siblings.map((token, nth) => group([item(token)], nth % 2 === 0 ? 0 : 1)),
      )
      t.same(used.flat().sort(), ['stored', 'superseded', 'superseded'])
      for (const [nth, token] of siblings.entries()) {
        t.same(await group([item(token)]), used[nth], 'and so it stays')
      }
    }
  },
)

t.test('a push token for an enrollment that was replaced meanwhile changes nothing', async (t) => {
  const device = await service.enroll('replaced', { fcm_token: 'old' })
  const { deviceId } = device
  t.equal(
    await devices.setPushId({ deviceId, enrollmentNo: 2 }, tokenId('late'), 'race'),
    'superseded',
  )
  t.match(await row(device), { fcm_token: 'old' })
  t.equal(await devices.setPushId({ deviceId, enrollmentNo: 1 }, tokenId('new'), 'race'), 'changed')
  t.match(await row(device), { fcm_token: 'new' })
})

t.test('a push token for a device that was deleted meanwhile changes nothing', async (t) => {
  const device = await service.enroll('deleted', { fcm_token: 'old' })
  const { deviceId } = device
  const give = () =>
    deviceStore(pools[0]).setPushId({ deviceId, enrollmentNo: 1 }, tokenId('late'), 'race')
  const [, response] = await inTurn(
    ['select from devices where device_id = $1 for update', deviceId],
    () => devices.delete(deviceId, BY, () => {}),
    give,
  )
  t.equal(response, 'superseded')
  t.equal(await give(), 'superseded', 'nor later')
  t.match(await row(device), { fcm_token: null, deleted_at: Date })
})

t.test(
  'a push token that another request gives meanwhile is unchanged, not superseded',
  async (t) => {
    const { deviceId } = await service.enroll('given-twice', { fcm_token: 'old' })
    const give = (replica: 0 | 1) => () =>
      deviceStore(pools[replica]).setPushId({ deviceId, enrollmentNo: 1 }, tokenId('both'), 'race')
    const responses = await inTurn(
      ['select from devices where device_id = $1 for update', deviceId],
      give(0),
      give(1),
    )
    t.same(responses, ['changed', 'unchanged'])
  },
)

/** The times that the group's statement gave for a push token. */
function offered(response: HeartbeatResult | undefined): PushIdOffer {
  const offer = response?.kind === 'stored' ? response.pushIdOffer : null
  if (offer === null) throw new Error('no push token to take')
  return offer
}

t.test('so does one that a heartbeat of that enrollment brought', async (t) => {
  const device = await service.enroll('offer-replaced', { fcm_token: 'old' })
  t.same(await group([item(device.token)]), ['stored'])
  const [response] = (await stores[0]?.([item(device.token, 'late')])) ?? []
  const again = await service.enroll('offer-replaced')
  t.same(await group([item(again.token)]), ['stored'])
  const offer = { pushId: tokenId('late'), ...offered(response) }
  const { deviceId } = device
  t.notOk(await devices.offerPushId({ deviceId, tokenHash: hash(device.token) }, offer, 'race'))
  t.match(await row(device), { fcm_token: 'old' })
  const enrollmentToken = await reEnrollment('offer-replaced')
  const [, isTaken] = await inTurn(
    ['select from devices where device_id = $1 for update', deviceId],
    () => enroll(enrollmentToken),
    () =>
      deviceStore(pools[0]).offerPushId({ deviceId, tokenHash: hash(again.token) }, offer, 'race'),
  )
  t.equal(isTaken, false, 'nor where it waits for the enrollment to end')
})

t.test(
  'a push token that is given behind a heartbeat is not replaced by the heartbeat’s',
  async (t) => {
    const device = await service.enroll('late-offer', { fcm_token: 'old' })
    const { deviceId, token } = device
    t.same(await group([item(token)]), ['stored'])
    const [response] = (await stores[0]?.([item(token, 'of-heartbeat')])) ?? []
    t.equal(
      await devices.setPushId({ deviceId, enrollmentNo: 1 }, tokenId('given-behind'), 'race'),
      'changed',
    )
    const offer = { pushId: tokenId('of-heartbeat'), ...offered(response) }
    t.notOk(await devices.offerPushId({ deviceId, tokenHash: hash(token) }, offer, 'race'))
    t.match(await row(device), { fcm_token: 'given-behind' })
  },
)

t.test('a push token that another one overtakes is named', async (t) => {
  const device = await service.enroll('overtaken', { fcm_token: 'old' })
  const body = { fcm_token: 'mine' }
  let response: TestResponse
  for (;;) {
    await db.query('begin')
    await db.query(
      `update devices set fcm_token = 'newer', fcm_token_at = now() + interval '1 min' where device_id = $1`,
      [device.deviceId],
    )
    const beat = service.call('POST', '/v1/heartbeat', { token: device.token, body })
    await Promise.race([waiting(1), beat])
    await db.query('commit')
    response = await beat
    if (response.status !== 503) break // where the machine is busy, the heartbeat may give up before the commit
  }
  t.match(response, { status: 200, body: { ignored: ['fcm_token'] } })
  t.match(await row(device), { fcm_token: 'newer' })
})

t.test(
  'an older push token replaces the dead one that it was offered for, and no other',
  async (t) => {
    const device = await service.enroll('dead-offer')
    const { deviceId, token } = device
    const tokenHash = hash(token)
    const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * 60_000)
    const beatOf = async (pushToken: string, minutes: number) => {
      const [response] = (await stores[0]?.([item(token, pushToken, minutesAgo(minutes))])) ?? []
      return { pushId: tokenId(pushToken), ...offered(response) }
    }
    t.same(await group([item(token)]), ['stored'])
    await db.query('update device_status set effective_at = null where device_id = $1', [deviceId])
    const offer = async (one: PushIdOffer & { pushId: PushId }) =>
      devices.offerPushId({ deviceId, tokenHash }, one, 'race')
    t.ok(await offer(await beatOf('first', 10)))
    await db.query('update devices set fcm_token_died_at = now() where device_id = $1', [deviceId])
    const [older, newer] = [await beatOf('older', 30), await beatOf('newer', 5)]
    t.not(older.replacesAt, '')
    t.equal(newer.replacesAt, '')
    t.ok(await offer(newer))
    t.notOk(await offer(older), 'the dead one is gone')
    t.ok(await offer(newer), 'it is there already')
    t.match(await row(device), { fcm_token: 'newer', fcm_token_died_at: null })
    await db.query('update devices set fcm_token_died_at = now() where device_id = $1', [deviceId])
    t.ok(await offer(await beatOf('oldest', 60)))
    t.match(await row(device), { fcm_token: 'oldest', fcm_token_died_at: null })
  },
)

t.test('a heartbeat that waits behind a newer one changes nothing that it said', async (t) => {
  const device = await service.enroll('newer-first')
  t.same(await group([item(device.token)]), ['stored'])
  await db.query(
    `update device_status set effective_at = now() - interval '1 h', app_version = 'x' where device_id = $1`,
    [device.deviceId],
  )
  const [newer, older] = [new Date(Date.now() - 60_000), new Date(Date.now() - 120_000)]
  const [, late] = await inTurn(
    [STATUS, device.deviceId],
    () => group([item(device.token, null, newer)], 0),
    async () => (await stores[1]?.([item(device.token, 'older', older)])) ?? [],
  )
  t.match(late, [{ kind: 'stored', pushIdOffer: null, isPushIdOlder: true }])
  const { rows } = await db.query('select * from device_status where device_id = $1', [
    device.deviceId,
  ])
  t.match(rows, [{ effective_at: newer, app_version: null }])
})

t.test(
  'a phone that was replaced since its heartbeat was stored is handed no command',
  async (t) => {
    const device = await service.enroll('handed')
    const body = { device_id: device.deviceId, action: 'ring', request_id: 'handed' }
    t.same(await group([item(device.token)]), ['stored'])
    t.equal((await service.call('POST', '/admin/command', { body })).status, 202)
    t.match(await stores[0]?.([item(device.token)]), [{ kind: 'stored', hasMail: true }])
    const again = await service.enroll('handed')
    const { handOver } = mailbox(pools[0], 'race')
    t.same(await handOver(hash(device.token)), [])
    t.same(await group([item(again.token)]), ['stored'])
    t.match(await handOver(hash(again.token)), [
      { requestId: 'handed', attempt: 1, enrollmentNo: 2 },
    ])
  },
)

t.test('a command that is cancelled while it is handed over is not', async (t) => {
  const device = await service.enroll('cancelled')
  const body = { device_id: device.deviceId, action: 'ring', request_id: 'cancelled' }
  t.same(await group([item(device.token)]), ['stored'])
  t.equal((await service.call('POST', '/admin/command', { body })).status, 202)
  const [cancelled, handed] = await inTurn(
    ['select from commands where request_id = $1 for update', 'cancelled'],
    () => commandStore(beside).cancel('cancelled', BY),
    () => mailbox(pools[0], 'race').handOver(hash(device.token)),
  )
  t.match(cancelled, { kind: 'cancelled', command: { state: 'cancelled', deliveries: 0 } })
  t.same(handed, [])
})
