/**
 * `npm run drill -- identity`: half of the phones change the kind of their push identity, in both directions, while commands run
 * and either of two replicas is killed again and again. FCM ends the former identity at once. At the end each phone gets one
 * more command, and FCM lowers the priority of one.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import type { FakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { pushIdText } from '../../src/domain/delivery/push-id.ts'
import { asJsonObject, bodyOf, jsonHeaders } from '../../testkit/http/client.ts'
import { seededRandom } from '../../testkit/random.ts'
import { ADMIN_TOKEN } from '../../testkit/service-settings.ts'
import { until } from '../../testkit/until.ts'
import { type CommandsAdmin, createCommandsAdmin } from '../commands/admin.ts'
import { allEnded, nothingMissing, ranOnce } from '../commands/check.ts'
import { createCommandsJournal } from '../commands/journal.ts'
import { type CommandsRig, onReplicas, sendUnderKills, spread } from '../commands/rig.ts'
import { countOpen, lapseLeases, readStored } from '../commands/stored.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import { createPhones, misaddressed, type Phone, type Phones } from './phones.ts'

export interface IdentityRun extends DatabaseEnvironment {
  readonly devices: number
  readonly commands: number
  readonly kills: number
  readonly ratePerS: number
  readonly heartbeatIntervalS: number
  /** As in commands/run.ts. */
  readonly leaseCutS: number | null
  readonly random: () => number
}

const TTL_S = 86_400
const SETTLE_MS = 600_000
const POLL_MS = 200
/** From a claim to the signature of its message, on a machine that is busy with kills. */
const GRACE_MS = 1_000
/** FCM's limit for one device. */
const MOST_PER_MINUTE = 240
const SCRAPES = 50

export const identityDrill = defineDrill({
  name: 'identity',
  promise:
    'phones change from token to FID and back while commands run and replicas are killed: none addressed by the wrong kind, none cleared, none lost, none run twice',
  options: {
    devices: { standard: 10_000, what: 'phones; every second one changes its kind' },
    commands: { standard: 20_000, what: 'created meanwhile' },
    kills: { standard: 10, what: 'SIGKILLs, to either of two replicas' },
    rate: { standard: 100, what: 'commands a second' },
    seed: { standard: 1, what: 'of the kills, the changes and the addressees' },
  },
  needs: 'postgres',
  run: ({ rate, seed, ...options }, environment) =>
    runIdentity({
      ...options,
      ...environment,
      ratePerS: rate,
      heartbeatIntervalS: 60,
      leaseCutS: null,
      random: seededRandom(seed),
    }),
})

interface Rig extends CommandsRig {
  readonly phones: Phones
  readonly admin: CommandsAdmin
}

export async function runIdentity(run: IdentityRun): Promise<readonly Figure[]> {
  const { print } = run
  const settings = { RATE_LIMIT_TOKENS_PER_HOUR: '1000000' }
  const limit = (fcm: FakeFcm) => fcm.setMode({ mostPerMinute: MOST_PER_MINUTE })
  return onReplicas(run, settings, limit, async (parts) => {
    const { fcm, pair, living, db } = parts
    const journal = createCommandsJournal()
    const admin = createCommandsAdmin(pair.send, ADMIN_TOKEN, journal)
    const aliases = Array.from({ length: run.devices }, (_, index) => `I-${index + 1}`)
    const { heartbeatIntervalS } = run
    const phones = createPhones({
      ...journal.watch(pair.send),
      fcm,
      aliases,
      heartbeatIntervalS,
      random: Math.random,
    })
    const rig = { ...parts, phones, admin }
    const tokens = await issueEnrollmentTokens(pair.send, ADMIN_TOKEN, aliases)
    while (phones.all.some(({ device }) => device.deviceId === null))
      await phones.fleet.enroll(tokens)
    await phones.fleet.beat()
    print(`${run.devices} phones are enrolled`)

    const lives = phones.fleet.live(living.signal)
    await sendAndChange(run, rig)
    const changes = phones.all.filter(({ former }) => former.size > 0).length
    print(`all ${run.commands} commands are acknowledged; ${changes} phones have changed`)
    await settle(run, rig)
    const whileChanging = fcm.journal.length
    for (const { device } of phones.all) {
      await admin.create({
        requestId: `last-${device.alias}`,
        alias: device.alias,
        ttlS: TTL_S,
        waitMs: 0,
      })
    }
    await settle(run, rig)
    living.abort()
    await lives
    await phones.quiet()
    const stored = await readStored(db)
    const evidence = { journal, stored }
    return [
      addressFigure(phones, fcm, whileChanging),
      await identityFigure(rig),
      allEnded(evidence),
      nothingMissing(evidence),
      ranOnce(evidence),
      await loweredFigure(rig),
    ]
  })
}

/** Commands at a fixed rate; kills and changes are spread over them. */
async function sendAndChange(run: IdentityRun, { pair, admin, phones }: Rig): Promise<void> {
  const { random } = run
  const changing = phones.all.filter((_, index) => index % 4 < 2)
  const changesAt = spread(changing.length, run)
  await sendUnderKills(run, pair, async (index) => {
    while (changesAt[0] !== undefined && changesAt[0] <= index) {
      changesAt.shift()
      const phone = changing.pop()
      if (phone !== undefined) phones.change(phone)
    }
    const alias = phones.all[Math.floor(random() * run.devices)]?.device.alias ?? ''
    await admin.create({ requestId: `id-${index + 1}`, alias, ttlS: TTL_S, waitMs: 0 })
  })
}

/** Until every command has ended and no phone has anything to report. */
async function settle(run: IdentityRun, { db, phones }: Rig): Promise<void> {
  const isSettled = async () => {
    if (run.leaseCutS !== null) await lapseLeases(db, run.leaseCutS)
    await wait(POLL_MS)
    const isUpToDate = phones.all.every(({ device }) => device.queue.isUpToDate)
    return isUpToDate && (await countOpen(db)) === 0
  }
  await until(isSettled, 'every command has ended', SETTLE_MS)
}

function addressFigure(phones: Phones, fcm: FakeFcm, whileChanging: number): Figure {
  const late = misaddressed(phones, fcm.journal, GRACE_MS).length
  const within = misaddressed(phones, fcm.journal, 0).length - late
  const afterwards = misaddressed(phones, fcm.journal.slice(whileChanging), 0).length
  const changed = phones.all.filter(({ former }) => former.size > 0).length
  return {
    promise: 'no message is addressed by the former kind once the change is known',
    measured: `${changed} changes, ${fcm.journal.length} messages: ${late} wrong, ${within} more claimed up to ${GRACE_MS} ms before; ${afterwards} of ${fcm.journal.length - whileChanging} afterwards`,
    isHeld: late === 0 && afterwards === 0 && changed > 0,
  }
}

async function identityFigure({ db, phones }: Rig): Promise<Figure> {
  const { rows } = await db.query<{ alias: string; id: string | null; is_dead: boolean }>(
    `select alias, coalesce('token:' || fcm_token, 'fid:' || fid) as id, fcm_token_died_at is not null as is_dead
     from devices`,
  )
  const stored = new Map(rows.map((row) => [row.alias, row]))
  const isOther = ({ device, current }: Phone) =>
    stored.get(device.alias)?.id !== pushIdText(current)
  const dead = rows.filter(({ is_dead }) => is_dead).length
  const other = phones.all.filter(isOther).length
  return {
    promise: 'each phone has the identity that FCM knows it by, and none of them is cleared',
    measured: `${rows.length} phones, ${other} with another identity, ${dead} cleared`,
    isHeld: other === 0 && dead === 0 && rows.length === phones.all.length,
  }
}

/** A command with its result at lowered priority, then one that the phone does not get. */
async function loweredFigure({ pair, phones, admin, fcm }: Rig): Promise<Figure> {
  const [phone] = phones.all
  if (phone === undefined) throw new Error('no phone')
  const headers = jsonHeaders(ADMIN_TOKEN)
  const read = async (path: string) => pair.send({ method: 'GET', path, headers })
  const story = async (id: string) => bodyOf(await read(`/admin/commands/${id}`))
  const order = { alias: phone.device.alias, ttlS: TTL_S, waitMs: 0 }
  phone.app.setLowered(true)
  await admin.create({ ...order, requestId: 'lowered' })
  await until(async () => (await story('lowered'))['status'] === 'completed', 'a result')
  let scraped = 0
  for (let scrape = 0; scrape < SCRAPES && scraped === 0; scrape += 1) {
    const { bytes } = await read('/metrics')
    scraped = Number(
      /^fleetloop_push_deprioritized_total (\d+)$/m.exec(bytes.toString('utf8'))?.[1],
    )
  }
  phones.setDeaf(true)
  await admin.create({ ...order, requestId: 'waiting' })
  await fcm.waitForSend(({ data }) => data['request_id'] === 'waiting')
  const verdict = async () => asJsonObject((await story('waiting'))['verdict']) ?? {}
  await until(async () => (await verdict())['code'] === 'pushed_waiting_for_device', 'a verdict')
  const { detail } = await verdict()
  return {
    promise: 'a phone whose priority FCM lowers shows in the next scrape, and in the verdict',
    measured: `fleetloop_push_deprioritized_total ${scraped}; ${detail}`,
    isHeld: scraped === 1 && String(detail).includes('FCM lowered the priority'),
  }
}
