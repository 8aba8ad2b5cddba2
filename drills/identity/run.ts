/**
 * `npm run drill -- identity`: half of the phones change the kind of their push identity, in both directions, while commands run
 * and either of two replicas is killed again and again. FCM ends the former identity at once. At the end each phone gets one
 * more command, and FCM lowers the priority of one.
 */
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { pushIdText } from '../../src/domain/push-id.ts'
import { asJsonObject, bodyOf, jsonHeaders } from '../../testkit/http/client.ts'
import { seededRandom } from '../../testkit/random.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import { until } from '../../testkit/until.ts'
import { type CommandsAdmin, createCommandsAdmin } from '../commands/admin.ts'
import { allEnded, nothingMissing, ranOnce } from '../commands/check.ts'
import { createCommandsJournal } from '../commands/journal.ts'
import { countOpen, lapseLeases, readStored } from '../commands/stored.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import { type ReplicaPair, startReplicaPair } from '../shared/replica-pair.ts'
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
const KILL_SPREAD_MS = 50

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

interface Rig {
  readonly pair: ReplicaPair
  readonly fcm: FakeFcm
  readonly phones: Phones
  readonly admin: CommandsAdmin
  readonly db: pg.Client
}

export async function runIdentity(run: IdentityRun): Promise<readonly Figure[]> {
  const { random, print } = run
  const fcm = await startFakeFcm()
  fcm.setMode({ mostPerMinute: MOST_PER_MINUTE })
  const pair = await startReplicaPair(
    {
      ...serviceSettings(run.databaseUrl, run.dataDir),
      ...pushSettings(fcm),
      HEARTBEAT_DEDUP_WINDOW_S: '0',
      RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    },
    random,
  )
  const db = new pg.Client({ connectionString: run.databaseUrl })
  await db.connect()
  const living = new AbortController()
  try {
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
    const rig = { pair, fcm, phones, admin, db }
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
    const figures = [
      addressFigure(phones, fcm, whileChanging),
      await identityFigure(rig),
      allEnded(evidence),
      nothingMissing(evidence),
      ranOnce(evidence),
      await loweredFigure(rig),
    ]
    const codes = await pair.stop()
    const faults = pair.faults()
    return [
      ...figures,
      {
        promise: 'no replica ends but by our hand, no answer 500; SIGTERM at the end exits 0',
        measured: `${faults.length} faults; exit codes ${codes.join(', ')} ${faults[0] ?? ''}`,
        isHeld: faults.length === 0 && codes.every((code) => code === 0),
      },
    ]
  } finally {
    living.abort()
    await pair.stop()
    await db.end()
    await fcm.close()
  }
}

/** Commands at a fixed rate; kills and changes are spread over them. */
async function sendAndChange(run: IdentityRun, { pair, admin, phones }: Rig): Promise<void> {
  const { random } = run
  const killsAt = spread(run.kills, run)
  const changing = phones.all.filter((_, index) => index % 4 < 2)
  const changesAt = spread(changing.length, run)
  const underWay: Promise<void>[] = []
  let killing = Promise.resolve()
  const startedAtMs = performance.now()
  for (let index = 0; index < run.commands; index += 1) {
    while (killsAt[0] !== undefined && killsAt[0] <= index) {
      killsAt.shift()
      await killing
      killing = wait(KILL_SPREAD_MS * random()).then(() => pair.kill())
    }
    while (changesAt[0] !== undefined && changesAt[0] <= index) {
      changesAt.shift()
      const phone = changing.pop()
      if (phone !== undefined) phones.change(phone)
    }
    await wait(Math.max(0, startedAtMs + (index * 1_000) / run.ratePerS - performance.now()))
    const alias = phones.all[Math.floor(random() * run.devices)]?.device.alias ?? ''
    underWay.push(admin.create({ requestId: `id-${index + 1}`, alias, ttlS: TTL_S, waitMs: 0 }))
  }
  await Promise.all([...underWay, killing])
}

/** So many moments of the run, in order, as numbers of commands. */
function spread(count: number, { commands, random }: IdentityRun): number[] {
  const moments = Array.from({ length: count }, () => (0.05 + 0.9 * random()) * commands)
  return moments.map(Math.floor).sort((a, b) => a - b)
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
