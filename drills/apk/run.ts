/**
 * `npm run drill -- apk`: uploads in a row, each then fetched through the other replica; uploads that break off and a
 * replica that is killed during one, while phones pull the latest.
 */

import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createSend } from '../../testkit/http/client.ts'
import { residentBytes } from '../../testkit/processes.ts'
import { seededRandom } from '../../testkit/random.ts'
import { until } from '../../testkit/until.ts'
import { defineDrill, type Figure } from '../drill.ts'
import { type Pulling, startPulling } from './pulls.ts'
import { openStage, type Seat, type Stage, type StageOptions } from './stage.ts'
import type { Upload } from './uploads.ts'

export interface ApkRun extends StageOptions {
  readonly uploads: number
  /** Uploads that break off half-way, and kills during an upload. */
  readonly cuts: number
}

/** Passed by an upload held in memory, or by a small leak per upload; twice the heap's own variation. */
const MOST_GROWTH_BYTES = 64 * 1024 ** 2
const MB = 1_000_000
const MIB = 1024 ** 2
const POLL_MS = 20
const WAIT_MS = 60_000

interface Acts {
  readonly run: ApkRun
  readonly stage: Stage
  /** By SHA-256 in hex. */
  readonly published: Map<string, Upload>
}

export const apkDrill = defineDrill({
  name: 'apk',
  promise:
    'uploads in a row, some cut off or killed, while phones pull: memory flat, every build whole or absent',
  options: {
    uploads: { standard: 50, what: 'in a row' },
    min: { standard: 10, what: 'size of one, million bytes' },
    max: { standard: 50, what: 'size of one, million bytes' },
    cuts: { standard: 10, what: 'uploads that break off, and as many kills within one' },
    phones: { standard: 10, what: 'that pull the latest meanwhile' },
    seed: { standard: 1, what: 'of the sizes' },
  },
  needs: 'postgres',
  run: ({ min, max, seed, ...options }, environment) =>
    runApks({
      ...options,
      ...environment,
      minBytes: MB * min,
      maxBytes: MB * max,
      random: seededRandom(seed),
    }),
})

export async function runApks(run: ApkRun): Promise<readonly Figure[]> {
  const stage = await openStage(run)
  const acts: Acts = { run, stage, published: new Map() }
  try {
    const figures = [await uploadInARow(acts), await fetchEach(acts)]
    const pulling = startPulling(stage.devices)
    figures.push(await breakOff(acts, pulling), await killWithin(acts, pulling))
    figures.push(await killAround(acts, pulling, 'before_commit'))
    figures.push(await killAround(acts, pulling, 'after_commit_before_reply'))
    figures.push(await pulled(acts, pulling))
    return [...figures, await ends(stage)]
  } finally {
    await stage.close()
  }
}

async function publish({ stage, published }: Acts, upload: Upload): Promise<boolean> {
  // A phone may fetch it before the publisher has the response.
  published.set(upload.sha256, upload)
  return (await stage.uploads.publish(stage.taker.origin, upload)) === 201
}

async function uploadInARow(acts: Acts): Promise<Figure> {
  const { run, stage } = acts
  const resident: number[] = []
  let stored = 0
  let bytes = 0
  for (let index = 0; index < run.uploads; index++) {
    const upload = stage.uploads.next()
    bytes += upload.bytes.length
    const most = await mostResident(stage.taker, async () => {
      if (await publish(acts, upload)) stored += 1
    })
    resident.push(most)
    run.print(`upload ${index + 1}: ${mib(upload.bytes.length)}, resident ${mib(most)} at most`)
  }
  const memory = flatness(resident)
  return {
    promise: 'uploads in a row: all are stored, memory is flat',
    measured: `${stored} of ${run.uploads}, ${mib(bytes)}; ${memory.measured}`,
    isHeld: stored === run.uploads && memory.isFlat,
    isTimed: stored === run.uploads,
  }
}

async function fetchEach({ run, stage, published }: Acts): Promise<Figure> {
  const { giver, cacheBytes, adminToken } = stage
  const send = createSend(giver.origin)
  const resident: number[] = []
  let right = 0
  let mostCached = 0
  for (const { buildId, sha256 } of published.values()) {
    const hash = createHash('sha256')
    const fetch = () =>
      send({
        method: 'GET',
        path: `/admin/apk/builds/${buildId}/download`,
        headers: { authorization: `Bearer ${adminToken}` },
        sink: (piece) => hash.update(piece),
      })
    resident.push(await mostResident(giver, fetch))
    if (hash.digest('hex') === sha256) right += 1
    mostCached = Math.max(mostCached, await sizeOf(join(giver.dataDir, 'apk-cache')))
  }
  run.print(`fetched ${right}, cache ${mib(mostCached)} of ${mib(cacheBytes)}`)
  const memory = flatness(resident)
  return {
    promise: 'each is fetched through the other replica with its sum; its cache keeps its bound',
    measured: `${right} of ${published.size}; cache ${mib(mostCached)} at most, of ${mib(cacheBytes)}; ${memory.measured}`,
    isHeld: right === published.size && mostCached <= cacheBytes && memory.isFlat,
    isTimed: right === published.size && mostCached <= cacheBytes,
  }
}

async function breakOff(acts: Acts, pulling: Pulling): Promise<Figure> {
  const { run, stage } = acts
  let kept = 0
  for (let cut = 0; cut < run.cuts; cut++) {
    const lost = stage.uploads.next()
    const half = await stage.uploads.beginHalf(stage.taker.origin, lost)
    await until(async () => !(await isSpoolEmpty(stage)), 'an upload in the spool', WAIT_MS)
    await pulling.pulled(run.phones)
    half.destroy()
    await until(() => isSpoolEmpty(stage), 'an empty spool', WAIT_MS)
    if (await isStored(stage, lost)) kept += 1
    if (!(await publish(acts, stage.uploads.next()))) kept += 1 // so that the latest changes
  }
  return {
    promise: 'an upload that breaks off at 50 % leaves nothing, and the next one is stored',
    measured: `${run.cuts} broken off, ${kept} with a trace`,
    isHeld: kept === 0,
  }
}

async function killWithin(acts: Acts, pulling: Pulling): Promise<Figure> {
  const { run, stage } = acts
  const { taker, uploads } = stage
  let kept = 0
  for (let kill = 0; kill < run.cuts; kill++) {
    const lost = uploads.next()
    const half = await uploads.beginHalf(taker.origin, lost)
    await until(async () => !(await isSpoolEmpty(stage)), 'an upload in the spool', WAIT_MS)
    taker.life.signal('SIGKILL')
    await taker.life.ended
    half.destroy()
    await taker.restart()
    if (!(await isSpoolEmpty(stage)) || (await isStored(stage, lost))) kept += 1
    if (!(await publish(acts, lost))) kept += 1
    await pulling.pulled(run.phones)
  }
  return {
    promise:
      'kill -9 within an upload leaves no build, the spool is cleaned at start, the same again is stored',
    measured: `${run.cuts} kills, ${kept} with a trace`,
    isHeld: kept === 0,
  }
}

/** Kills while all bytes are in the database: before the commit, or after it but before the response. */
async function killAround(
  acts: Acts,
  pulling: Pulling,
  failpoint: 'before_commit' | 'after_commit_before_reply',
): Promise<Figure> {
  const { run, stage } = acts
  const { taker, uploads } = stage
  await taker.life.stop()
  await taker.restart({ main: 'testkit/failpoint-main.js', env: { FAILPOINT: failpoint } })
  const upload = uploads.next()
  acts.published.set(upload.sha256, upload)
  const status = await uploads.publish(taker.origin, upload).catch(() => null)
  const { signal } = await taker.life.ended
  await taker.restart()
  const isKept = await isStored(stage, upload)
  const again = await uploads.publish(taker.origin, upload)
  const mustBeKept = failpoint === 'after_commit_before_reply'
  await pulling.pulled(run.phones)
  return {
    promise: `kill -9 ${mustBeKept ? 'after the commit leaves the whole build' : 'before the commit leaves no build either'}`,
    measured: `answer ${status}, ${signal}; build kept: ${isKept}, the same again: ${again}`,
    isHeld:
      status === null &&
      signal === 'SIGKILL' &&
      isKept === mustBeKept &&
      again === (mustBeKept ? 200 : 201),
  }
}

async function pulled({ published }: Acts, pulling: Pulling): Promise<Figure> {
  const { pulls, sums, faults } = await pulling.stop()
  const unknown = [...sums].filter((sum) => !published.has(sum))
  return {
    promise: 'whatever phones pull meanwhile is a whole build that was published',
    measured: `${pulls} pulls of ${sums.size} builds, ${unknown.length} of none, ${faults.length} broken${faults.length > 0 ? `: ${faults[0]}` : ''}`,
    isHeld: pulls > 0 && unknown.length === 0 && faults.length === 0,
  }
}

async function ends({ taker, giver, db }: Stage): Promise<Figure> {
  const lives = [taker.life, giver.life]
  const codes = (await Promise.all(lives.map((life) => life.stop()))).map(({ code }) => code)
  const faults = lives.flatMap(({ faultLines }) => faultLines)
  const { rows } = await db.query(`
    select count(*)::int as rows from apk_builds b
    where chunk_count <> (select count(*) from apk_chunks c where c.build_id = b.build_id)`)
  return {
    promise: 'no build without all its bytes, no answer 500, SIGTERM exits 0',
    measured: `${rows[0].rows} builds lack some, ${faults.length} answers 500, exit codes ${codes.join(', ')}`,
    isHeld: rows[0].rows === 0 && faults.length === 0 && codes.every((code) => code === 0),
  }
}

async function mostResident({ life }: Seat, work: () => Promise<unknown>): Promise<number> {
  let most = 0
  const look = () => {
    most = Math.max(most, residentBytes(life.pid))
  }
  const timer = setInterval(look, POLL_MS)
  await work().finally(() => clearInterval(timer))
  look()
  return most
}

/** Compares the last fifth with the first. */
function flatness(resident: readonly number[]) {
  const part = Math.ceil(resident.length / 5)
  const [early, late] = [Math.max(...resident.slice(0, part)), Math.max(...resident.slice(-part))]
  return {
    measured: `resident ${mib(early)} at most in the first fifth, ${mib(late)} in the last`,
    isFlat: late <= early + MOST_GROWTH_BYTES,
  }
}

async function isStored({ db }: Stage, { buildId }: Upload): Promise<boolean> {
  const text = `select 1 from apk_builds where build_id = $1
    union all select 1 from apk_chunks where build_id = $1`
  return (await db.query(text, [buildId])).rowCount !== 0
}

async function isSpoolEmpty({ taker }: Stage): Promise<boolean> {
  return (await readdir(join(taker.dataDir, 'spool'))).length === 0
}

/** Total size of the files; a file that disappears counts as 0. */
async function sizeOf(dir: string): Promise<number> {
  const sizes = (await readdir(dir)).map((name) =>
    stat(join(dir, name)).then(
      ({ size }) => size,
      () => 0,
    ),
  )
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

function mib(bytes = 0): string {
  return `${(bytes / MIB).toFixed(0)} MiB`
}
