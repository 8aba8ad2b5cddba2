/**
 * `npm run drill -- plans --held`: a pg_dump holds its snapshot for ten minutes while 300 commands a second arrive,
 * are pushed and end, and the changes of as many commands of a job are counted. Meanwhile their entries in the indexes of
 * claim, sweep and jobs cannot be removed, and no query may walk over them again and again. The ten minutes are inserted at
 * once, each row with its own times; the queries before and after are real.
 */
import { createHash, randomUUID } from 'node:crypto'
import type pg from 'pg'
import { commandStore } from '../../src/db/commands/commands.ts'
import { commandOutbox } from '../../src/db/commands/outbox.ts'
import { commandResultStore } from '../../src/db/commands/results.ts'
import { jobStore } from '../../src/db/jobs/jobs.ts'
import { jobQueue } from '../../src/db/jobs/release.ts'
import { type Database, Pool } from '../../src/db/postgres/pool.ts'
import { explained, plainDatabase } from '../../testkit/database/explain.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { median } from '../../testkit/statistics.ts'
import type { Figure } from '../drill.ts'
import { BIG_JOB, deviceId, deviceIdSql, grow, NOTHING } from './installation.ts'
import { ATTEMPT, BY, RESULT } from './statements/push.ts'
import { pagesOf } from './statements/statement.ts'

const FLEET = { ...NOTHING, devices: 5_000, open: 500, members: 2_000 }
const PER_S = 300
/** Flow that lies behind when the dump begins. */
const BEFORE_S = 180
/** Measuring time before the dump, and at its end, when full checks are minutes apart and must not be left to chance. */
const MEASURED_MS = { before: 60_000, after: 360_000 }
const WARM_UP_MS = 10_000
const SWEEP_EVERY_MS = 5_000
const CLAIM_LIMIT = 64
/** Commands accepted between two claims. */
const AT_ONCE = 2
/** Each command of a job changes its status this often, and a running job is moved on this often a second. */
const CHANGES = 4
const ADVANCES_PER_S = 1
/** A command that expires during the dump leaves more in the sweep's way than one that lives for a day. */
const TTL_S = 120
const MOST_GROWTH = 2
/** Each count leaves a version of the job's row behind: a page for about twelve. Moving it on takes what it counts besides. */
const MOST_JOB_PAGES = 400

interface Cost {
  readonly claims: readonly Asked[]
  readonly sweeps: readonly Asked[]
  /** Of one check for due jobs, of moving one on, and of reading it. */
  readonly jobPages: number
  readonly advancePages: number
  readonly readPages: number
}

export async function explainHeld(
  url: string,
  db: pg.Client,
  heldS: number,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  await grow(db, NOTHING, FLEET)
  // Commands for absent phones stay open. With nothing open at all, the planner takes every index for empty.
  await db.query(`delete from commands where push_state = 'waiting'`)
  await db.query(`update jobs set state = 'paused', reason = 'admin'`) // it only counts
  const pool = new Pool({ url, maxConnections: 2, isPrepared: true })
  try {
    await fillFlow(db, BEFORE_S)
    await db.query('vacuum (analyze)')
    await fillFlow(db, BEFORE_S)
    const service = asService(db, pool)
    await service.measure(WARM_UP_MS)
    const before = await service.measure(MEASURED_MS.before)
    print(`no snapshot held: ${text(before)}`)
    return await withClient(url, async (dump) => {
      await dump.query('begin isolation level repeatable read; select 1')
      await fillFlow(db, heldS)
      await db.query('analyze') // otherwise the planner has statistics from the middle of the fill
      const startedAtMs = performance.now()
      const whole = await explained(db, 'generic', (database) =>
        commandOutbox(database, 'drill').claim(CLAIM_LIMIT, randomUUID()),
      )
      const wholeMs = performance.now() - startedAtMs
      print(`one look from the beginning: ${pagesOf(whole)} pages, ${Math.round(wholeMs)} ms`)
      await service.measure(WARM_UP_MS)
      const after = await service.measure(MEASURED_MS.after)
      print(`at the end: ${text(after)}`)
      print(`the dearest claim: ${dearest(after.claims)?.nodes.join(', ')}`)
      return [
        ...figures('claim', heldS, before.claims, after.claims),
        ...figures('sweep', heldS, before.sweeps, after.sweeps),
        jobFigure('check for due jobs', heldS, before.jobPages, after.jobPages),
        jobFigure('job moved on', heldS, before.advancePages, after.advancePages),
        jobFigure('job read', heldS, before.readPages, after.readPages),
      ]
    })
  } finally {
    await pool.close(1_000)
  }
}

/** Means, with the rare full checks, which read all that the dump keeps. */
function figures(
  what: string,
  heldS: number,
  before: readonly Asked[],
  after: readonly Asked[],
): readonly Figure[] {
  const compare = (cost: string, read: (asked: readonly Asked[]) => number) => {
    const [was, is] = [read(before), read(after)]
    return {
      promise: `${what}: after ${heldS} s of a held snapshot at most ${MOST_GROWTH} × the ${cost} of before`,
      measured: `${is.toFixed(2)} against ${was.toFixed(2)}: ${(is / was).toFixed(2)} ×`,
      isHeld: is <= MOST_GROWTH * was,
    }
  }
  return [
    compare('pages', (asked) => mean(asked.map(({ pages }) => pages))),
    {
      ...compare('time, ms,', (asked) => mean(asked.map(({ ms }) => ms))),
      isTimed: true,
    },
  ]
}

function jobFigure(what: string, heldS: number, before: number, after: number): Figure {
  const most = Math.max(MOST_JOB_PAGES, MOST_GROWTH * before)
  return {
    promise: `${what}: after ${heldS} s of a held snapshot at most ${MOST_JOB_PAGES} pages, or ${MOST_GROWTH} × those of before`,
    measured: `${after.toFixed(1)} against ${before.toFixed(1)} pages`,
    isHeld: after <= most,
  }
}

function text({ claims, sweeps }: Cost): string {
  const of = (asked: readonly Asked[]) => {
    const most = dearest(asked)
    const pages = asked.map((one) => one.pages)
    const means = `${mean(pages).toFixed(1)} pages, ${mean(asked.map(({ ms }) => ms)).toFixed(2)} ms`
    return `${means} (median ${median(pages)} pages; at most ${most?.pages}, ${most?.ms.toFixed(0)} ms)`
  }
  return `${claims.length} claims of ${of(claims)}, ${sweeps.length} sweeps of ${of(sweeps)}`
}

function dearest(asked: readonly Asked[]): Asked | undefined {
  return asked.toSorted((one, other) => other.pages - one.pages)[0]
}

/** Inserts what `forS` seconds of commands leave behind up to now: accepted, claimed, recorded and ended. */
async function fillFlow(db: pg.Client, forS: number): Promise<void> {
  const tag = randomUUID().slice(0, 8)
  const statements = [
    `insert into commands (request_id, device_id, action, params, request_hash, admin, created_at, expires_at,
       push_state, next_attempt_at)
     select '${tag}-' || n, ${deviceIdSql(`(n - 1) % ${FLEET.devices} + 1`)},
       'ping', '{}', '', 'drill', at, at + interval '${TTL_S} s', 'waiting', at
     from generate_series(1, ${forS * PER_S}) n, lateral (
       select now() - make_interval(secs => ${forS} - n::float8 / ${PER_S}) as at) times`,
    `update commands set push_state = 'sending', attempt = 1, lease_id = gen_random_uuid(),
       next_attempt_at = next_attempt_at + interval '60 s' where request_id like '${tag}-%'`,
    `update commands set push_state = 'sent', lease_id = null, next_attempt_at = null where request_id like '${tag}-%'`,
    `update commands set state = 'completed', ended_at = created_at + interval '1 s', outcome = 'success'
     where request_id like '${tag}-%'`,
  ]
  for (const statement of statements) await db.query(statement)
  for (let n = 0; n < forS * ADVANCES_PER_S; n += 1) {
    await db.query(CHANGE_JOB, [(PER_S * CHANGES) / ADVANCES_PER_S])
    await jobs(plainDatabase(db)).advance(BIG_JOB.jobNo)
  }
}

const CHANGE_JOB = /* sql */ `
  insert into job_changes (job_no, was, became)
  select ${BIG_JOB.jobNo}, 'queued', 'queued' from generate_series(1, $1::int)`
const jobs = (database: Database) => jobQueue(database, { instance: 'drill', isPushOn: true })

interface Asked {
  readonly pages: number
  /** The executor's. */
  readonly ms: number
  readonly nodes: readonly string[]
}

/**
 * Accepts, claims and ends commands and sweeps every 5 s, as the service does; returns the pages of claims and sweeps.
 */
function asService(db: pg.Client, pool: Database) {
  let explaining: Database = pool
  const queue = commandOutbox(
    { query: (query) => explaining.query(query), transaction: (work) => pool.transaction(work) },
    'drill',
  )
  const ask = async (work: (database: Database) => Promise<unknown>) => {
    const inside = (database: Database) => {
      explaining = database
      return work(database)
    }
    const plans = await explained(db, 'generic', inside, {}, true)
    const nodes = plans.flatMap((plan) => plan.nodes)
    return { pages: pagesOf(plans), ms: plans.reduce((sum, { ms }) => sum + ms, 0), nodes }
  }
  const measure = async (forMs: number): Promise<Cost> => {
    const claims: Asked[] = []
    const sweeps: Asked[] = []
    const due: Asked[] = []
    const advances: Asked[] = []
    const reads: Asked[] = []
    const endAtMs = performance.now() + forMs
    let sweepAtMs = performance.now() + SWEEP_EVERY_MS
    let advanceAtMs = performance.now()
    while (performance.now() < endAtMs) {
      for (let n = 0; n < AT_ONCE; n += 1) await accept(pool)
      let claimed: Awaited<ReturnType<typeof queue.claim>> = []
      claims.push(
        await ask(async () => {
          claimed = await queue.claim(CLAIM_LIMIT, randomUUID())
        }),
      )
      const writes = commandOutbox(pool, 'drill')
      for (const claim of claimed) {
        await writes.record(claim, ATTEMPT)
        const { requestId, deviceId } = claim
        await commandResultStore(pool, 'drill').record({ ...RESULT, requestId, deviceId })
      }
      await db.query(CHANGE_JOB, [CHANGES])
      if (performance.now() >= advanceAtMs) {
        advanceAtMs = performance.now() + 1_000 / ADVANCES_PER_S
        due.push(await ask((database) => jobs(database).unsettled()))
        reads.push(await ask((database) => jobStore(database, database).find(BIG_JOB.jobId)))
        advances.push(await ask((database) => jobs(database).advance(BIG_JOB.jobNo)))
      }
      if (performance.now() < sweepAtMs) continue
      sweepAtMs = performance.now() + SWEEP_EVERY_MS
      sweeps.push(await ask(() => queue.expire(500)))
    }
    return {
      claims,
      sweeps,
      jobPages: mean(due.map(({ pages }) => pages)),
      advancePages: mean(advances.map(({ pages }) => pages)),
      readPages: mean(reads.map(({ pages }) => pages)),
    }
  }
  return { measure }
}

function accept(pool: Database): Promise<unknown> {
  const device = Math.floor(Math.random() * FLEET.devices) + 1
  return commandStore(pool).accept(
    { deviceId: deviceId(device), alias: null },
    {
      ...BY,
      requestId: randomUUID(),
      action: 'ping',
      params: {},
      contentHash: createHash('sha256').digest(),
      ttlS: TTL_S,
      isPushOn: true,
    },
  )
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length)
}
