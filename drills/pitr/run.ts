/** `npm run drill -- pitr`: load, base backup, more load, the moment, a mistake, the restore as in docs/operate/scale.md, and how phones go on. */

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { SEEN_FILE } from '../../src/db/health/seen-file.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { seededDeviceId, seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import { type DrillEnvironment, defineDrill, type Figure, type Values } from '../drill.ts'
import { missingPrograms } from '../patroni/programs.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import { type Acknowledged, type MixedLoad, startMixedLoad } from '../shared/mixed-load.ts'
import { codesText, ResponseWatch } from '../shared/response-watch.ts'
import { type ArchivedServer, startArchivedServer } from './archived-server.ts'
import { answersTo, enroll } from './phones.ts'

const OPTIONS = {
  seconds: {
    standard: 10,
    what: 'of load before the backup, before the moment, behind it and after the restore',
  },
  rate: { standard: 100, what: 'requests a second: heartbeats, commands, results, reads' },
  phones: { standard: 20, what: 'that enroll before the moment, and as many behind it' },
} as const

type PitrRun = DrillEnvironment & Values<typeof OPTIONS>

/** Phones of the load; the mistake deletes DELETED others. */
const PHONES = 200
const DELETED = 20

export const pitrDrill = defineDrill({
  name: 'pitr',
  promise:
    'base backup under load, WAL archive, restore to a moment, phones go on: nothing acknowledged before it is missing, zero 401',
  options: OPTIONS,
  async run(options, environment) {
    const missing = missingPrograms([])
    if (missing !== false) return [{ promise: 'it runs', measured: missing, isHeld: false }]
    return runPitr({ ...options, ...environment })
  },
})

async function runPitr(run: PitrRun): Promise<readonly Figure[]> {
  const server = await startArchivedServer(run.dir)
  const lives: Replica[] = []
  try {
    return await runOn(run, server, lives)
  } finally {
    for (const life of lives) life.signal('SIGKILL')
    await Promise.all(lives.map(({ ended }) => ended))
    await server.stop()
  }
}

async function runOn(
  run: PitrRun,
  server: ArchivedServer,
  lives: Replica[],
): Promise<readonly Figure[]> {
  const { print, phones } = run
  const settings = {
    ...serviceSettings(server.url, run.dataDir),
    HEARTBEAT_DEDUP_WINDOW_S: '0',
    RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
  }
  const start = async (): Promise<Replica> => {
    const life = startReplica({ settings })
    lives.push(life)
    await life.ready
    return life
  }
  let life = await start()
  await withClient(server.url, (db) => seedFleet(db, HMAC_SECRET, PHONES + DELETED))
  const send = createSend(await life.origin)
  const responses = new ResponseWatch()
  const before = startLoad(run, await life.origin, responses, '')
  await wait(1_000 * run.seconds)
  await server.baseBackup()
  print(`base backup under load: ${codesText(responses.end())}`)
  const early = await enroll(send, 'early', phones)
  await wait(1_000 * run.seconds)

  const acknowledged = copyOf(before)
  const moment = await withClient(server.url, nowOf)
  print(`the moment: ${moment}`)
  await deletePhones(await life.origin)
  const late = await enroll(send, 'late', phones)
  await wait(1_000 * run.seconds)
  await before.stop()
  print(`behind it: ${codesText(responses.end())}`)

  await life.stop()
  await server.stop()
  const startedAtMs = performance.now()
  await server.restoreTo(moment)
  rmSync(join(run.dataDir, SEEN_FILE), { force: true })
  const tookS = (performance.now() - startedAtMs) / 1_000
  const missing = await withClient(server.url, (db) => nothingMissing(db, acknowledged))
  life = await start()
  const sendAgain = createSend(await life.origin)
  const earlyAre = await answersTo(sendAgain, early)
  const lateAre = await answersTo(sendAgain, late)
  const deletedAre = await answersTo(sendAgain, tokensFrom(PHONES, DELETED))
  const after = startLoad(run, await life.origin, responses, 'again-')
  await wait(1_000 * run.seconds)
  const report = await after.stop()
  const phase = responses.end()
  const bad = Object.keys(phase.byCode).filter((code) => !/^2\d\d$/.test(code))
  const lost = before.acknowledged.heartbeats.size - acknowledged.heartbeats.size
  return [
    {
      ...missing,
      promise: 'nothing acknowledged before the moment is missing',
      measured: `${missing.measured}; restored in ${tookS.toFixed(0)} s, ${lost} heartbeats acknowledged behind it are given up`,
    },
    {
      promise: 'phones that enrolled before the moment, base backup or not, go on',
      measured: earlyAre,
      isHeld: earlyAre === `${phones} × 200`,
    },
    {
      promise: 'phones that were deleted behind it by mistake are back',
      measured: deletedAre,
      isHeld: deletedAre === `${DELETED} × 200`,
    },
    {
      promise: 'phones that enrolled behind it are told 503 not_provisioned, never 401',
      measured: lateAre,
      isHeld: lateAre === `${phones} × 503 not_provisioned, Retry-After`,
    },
    {
      promise: 'zero 401: the load goes on as before',
      measured: `${report.sent} sent, ${codesText(phase)}; ${report.failed} without an answer`,
      isHeld: bad.length === 0 && report.failed === 0 && report.sent > 0,
    },
    {
      promise: 'no answer 500',
      measured: `${lives.flatMap(({ faultLines }) => faultLines).length}`,
      isHeld: lives.every(({ faultLines }) => faultLines.length === 0),
    },
  ]
}

function startLoad(
  { rate: ratePerS }: PitrRun,
  origin: string,
  responses: ResponseWatch,
  series: string,
): MixedLoad {
  const tokens = tokensFrom(0, PHONES)
  return startMixedLoad({
    origin,
    adminToken: ADMIN_TOKEN,
    tokens,
    ratePerS,
    onAnswer: responses.take,
    series,
  })
}

const tokensFrom = (first: number, count: number) =>
  Array.from({ length: count }, (_, index) => seededToken(HMAC_SECRET, first + index + 1))

function copyOf({ acknowledged }: MixedLoad): Acknowledged {
  const { heartbeats, commands, results, enrollmentTokens } = acknowledged
  return {
    heartbeats: new Set(heartbeats),
    commands: new Set(commands),
    results: new Set(results),
    ...(enrollmentTokens && { enrollmentTokens: new Set(enrollmentTokens) }),
  }
}

/** By the server's clock, which also stamps commits. */
async function nowOf(db: { query(text: string): Promise<{ rows: { now: string }[] }> }) {
  const { rows } = await db.query('select clock_timestamp()::text as now')
  return rows[0]?.now ?? ''
}

async function deletePhones(origin: string): Promise<void> {
  const send = createSend(origin)
  for (let n = PHONES + 1; n <= PHONES + DELETED; n += 1) {
    const path = `/admin/devices/${seededDeviceId(n)}`
    const response = await send({ method: 'DELETE', path, headers: jsonHeaders(ADMIN_TOKEN) })
    if (response.status >= 300) throw new Error(`${path} was answered with ${response.status}`)
  }
}
