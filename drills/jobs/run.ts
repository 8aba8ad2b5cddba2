/**
 * `npm run drill -- jobs`: a job for thousands of phones, some late, some offline, some that never report or report twice,
 * through a hostile FCM, while either of two replicas is killed again and again. Then a job whose phones fail.
 */
import { setTimeout as wait } from 'node:timers/promises'
import type pg from 'pg'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { createFleet } from '../../sim/fleet.ts'
import { seededRandom } from '../../testkit/random.ts'
import { ADMIN_TOKEN } from '../../testkit/service-settings.ts'
import { checkCommands } from '../commands/check.ts'
import { answersOf } from '../commands/hostile-fcm.ts'
import { type CommandsJournal, createCommandsJournal } from '../commands/journal.ts'
import { hostileRules, MAX_IN_FLIGHT, onHostileFcm } from '../commands/rig.ts'
import { lapseLeases, readStored } from '../commands/stored.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import type { ReplicaPair } from '../shared/replica-pair.ts'
import { createJobsAdmin, type JobsAdmin, type JobView } from './admin.ts'
import { countsFigure, paceFigure } from './checks.ts'
import { type Asked, createJudge, type Judge } from './judge.ts'
import { jobPhones } from './phones.ts'
import { runThreshold } from './threshold.ts'

export interface JobsRun extends DatabaseEnvironment {
  readonly devices: number
  readonly kills: number
  readonly perMinute: number
  readonly heartbeatIntervalS: number
  /** Of the members' commands. */
  readonly ttlS: number
  /** Some phones are offline or never report. */
  readonly hasSilent: boolean
  /** How long the job that its threshold has paused is watched. */
  readonly watchedS: number
  /** The leases of killed replicas expire after these seconds; null: after 60. */
  readonly leaseCutS: number | null
  /** 0 inclusive to 1 exclusive; decides which replica is killed when, and what FCM answers. */
  readonly random: () => number
}

const JOB_ID = 'drill'
const THRESHOLD_JOB_ID = 'fragile'
/** The share of members that are released when an admin pauses the job, and for how long. */
const PAUSED_AT = 0.4
const PAUSED_MS = 2_000
/** By this share of the release the last kill has come. */
const KILLS_UNTIL = 0.95
const MAX_BETWEEN_READS_MS = 500
const PROGRESS_MS = 15_000
const SETTLE_MS = 300_000

export const jobsDrill = defineDrill({
  name: 'jobs',
  promise:
    'a job through kills of either of two replicas: no member lost or run twice, its pace kept, and what it says of itself true at every read',
  options: {
    devices: {
      standard: 5_000,
      what: 'phones; of 50 one is offline, one never reports, others are late or fail',
    },
    kills: { standard: 20, what: 'SIGKILLs, to either of two replicas' },
    rate: { standard: 4_000, what: 'members a minute' },
    ttl: { standard: 60, what: 'seconds that a command of a member lives' },
    seed: { standard: 1, what: "of the kills and of FCM's answers; the rest is chance" },
  },
  needs: 'postgres',
  run: ({ rate, ttl, seed, ...options }, environment) =>
    runJobs({
      ...options,
      ...environment,
      perMinute: rate,
      heartbeatIntervalS: 20,
      ttlS: ttl,
      hasSilent: true,
      watchedS: 3,
      leaseCutS: null,
      random: seededRandom(seed),
    }),
})

export async function runJobs(run: JobsRun): Promise<readonly Figure[]> {
  const { print } = run
  const journal = createCommandsJournal()
  const phones = jobPhones(run.devices, { ...run, journal })
  const { aliases } = phones
  return onHostileFcm(run, async ({ fcm, pair, db, living }) => {
    const admin = createJobsAdmin(pair.send, ADMIN_TOKEN)
    const fleet = createFleet({
      ...phones.watch(pair.send),
      aliases,
      habitsOf: phones.habitsOf,
      nowMs: Date.now,
      random: Math.random,
      push: fcm,
    })
    await fleet.enroll(await issueEnrollmentTokens(pair.send, ADMIN_TOKEN, aliases))
    print(`${run.devices} phones are enrolled`)
    const lives = fleet.live(living.signal)
    for (const [index] of aliases.entries()) journal.accepted.add(`${JOB_ID}.${index + 1}`)
    const judge = createJudge({ jobId: JOB_ID, phones, ttlS: run.ttlS })
    const last = await runOne(run, { pair, admin, judge, db })
    const figures = [
      judgedFigure(judge),
      await countsFigure(db, JOB_ID, last),
      await paceFigure(db, JOB_ID, run.perMinute),
    ]
    const seen = soFar(journal)
    const pushes = [...fcm.journal]
    figures.push(
      ...checkCommands({
        journal: seen,
        pushes,
        stored: await readStored(db),
        rules: hostileRules(run.leaseCutS),
        mostLostAttempts: run.kills * MAX_IN_FLIGHT,
      }),
    )
    print(`FCM answered ${answersOf(fcm.journal)}`)
    figures.push(...(await runThreshold(admin, { ...run, jobId: THRESHOLD_JOB_ID })))
    living.abort()
    await lives
    return figures
  })
}

/** The phones live on: what they do from now on is not what is stored now. */
function soFar(journal: CommandsJournal): CommandsJournal {
  const { reported, heartbeats, runs, mailbox } = journal
  return {
    ...journal,
    reported: new Set(reported),
    heartbeats: new Set(heartbeats),
    runs: new Map(runs),
    mailbox: [...mailbox],
  }
}

/** Creates the job, reads it until it is done; kills and a pause come in between. */
async function runOne(
  run: JobsRun,
  { pair, admin, judge, db }: { pair: ReplicaPair; admin: JobsAdmin; judge: Judge; db: pg.Client },
): Promise<JobView> {
  const { devices, random } = run
  const body = {
    job_id: JOB_ID,
    where: 'alias:J-*',
    action: 'ring',
    ttl_s: run.ttlS,
    per_minute: run.perMinute,
  }
  let view = await admin.change('/admin/jobs', { ...body, expect_devices: devices })
  const killsAt = Array.from({ length: run.kills }, () => random() * KILLS_UNTIL * devices)
  killsAt.sort((a, b) => a - b)
  let asked: Asked = 'running'
  let changes = Promise.resolve()
  let hasPaused = false
  const endsAtMs = performance.now() + SETTLE_MS
  let printsAtMs = 0

  async function pause(): Promise<void> {
    asked = 'changing'
    await admin.change(`/admin/jobs/${JOB_ID}/pause`)
    asked = 'paused'
    await wait(PAUSED_MS)
    asked = 'changing'
    await admin.change(`/admin/jobs/${JOB_ID}/resume`)
    asked = 'running'
  }

  while (view.state !== 'done' && performance.now() < endsAtMs) {
    if (run.leaseCutS !== null) await lapseLeases(db, run.leaseCutS)
    while (killsAt[0] !== undefined && killsAt[0] <= view.released) {
      killsAt.shift()
      changes = changes.then(() => pair.kill())
    }
    if (!hasPaused && view.released >= PAUSED_AT * devices) {
      hasPaused = true
      changes = Promise.all([changes, pause()]).then(() => {})
    }
    const judged = judge.begin(asked)
    const read = await admin.read(JOB_ID)
    if (read !== undefined) {
      view = read
      judged(view, asked)
    }
    if (performance.now() >= printsAtMs) {
      printsAtMs = performance.now() + PROGRESS_MS
      run.print(`${view.released} released: ${JSON.stringify(view.counts)}`)
    }
    await wait(MAX_BETWEEN_READS_MS * random())
  }
  await changes
  return view
}

function judgedFigure({ reads, verdicts, faults }: Judge): Figure {
  const codes = [...verdicts].map(([code, count]) => `${count} × ${code}`).join(', ')
  return {
    promise:
      'at each read the counts sum up to the members, and counts and verdict are true to what the phones know',
    measured: [`${reads} reads: ${codes}; ${faults.length} faults`, ...faults.slice(0, 5)].join(
      '\n        ',
    ),
    isHeld: faults.length === 0 && reads > 5 && verdicts.has('done_with_failures'),
  }
}
