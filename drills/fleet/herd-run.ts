/**
 * Restart herds: a large fleet on one service that is restarted by SIGTERM and SIGKILL in turn. After each pause all
 * phones send at once.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { withClient } from '../../testkit/database/postgres.ts'
import { createSend } from '../../testkit/http/client.ts'
import { residentBytes } from '../../testkit/processes.ts'
import type { Replica } from '../../testkit/service.ts'
import type { DatabaseEnvironment, Figure } from '../drill.ts'
import { type Moments, recountOften } from '../selection/recount.ts'
import { type Lives, startLives } from '../service-kills/lives.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import {
  answersFigure,
  eachHasBeaten,
  publishApk,
  type SimulatedFleet,
  simulatedFleet,
  simulatedSettings,
  summaryFigure,
} from './simulated-fleet.ts'

export interface HerdRun extends DatabaseEnvironment {
  /** Arguments of `npm run simulate`, without the origin. */
  readonly simulate: readonly string[]
  /** By SIGTERM and SIGKILL in turn. */
  readonly restarts: number
  readonly awayS: number
  /** When the fleet summary is compared with a recount, while the phones live. */
  readonly moments: Moments
}

/** Twice a phone's wait after its second refusal. */
const MOST_RETURN_MS = 30_000
const MOST_READY_MS = 2_000
/** Heartbeats of each phone between two herds. */
const BEATS_BETWEEN = 2
const MIB = 2 ** 20
/** At the end the admin also asks about commands that were never acknowledged. */
const NOT_SERVED =
  / (503 (overloaded|shutting_down|db_unavailable)|no answer)$|^GET \/admin\/commands\/\{request_id\} 404 command_unknown$/

interface Herd {
  readonly how: string
  /** Since the service took requests again. */
  readonly returnMs: number
  readonly residentMiB: number
}

export async function runHerds(run: HerdRun): Promise<readonly Figure[]> {
  const fcm = await startFakeFcm()
  const lives = startLives({
    ...simulatedSettings(run.databaseUrl, run.dataDir, fcm),
    HEARTBEAT_DEDUP_WINDOW_S: '0',
  })
  try {
    let life = await lives.next({})
    const origin = await life.origin
    await publishApk(createSend(origin))
    const recounts = withClient(run.databaseUrl, (db) => recountOften(db, run.moments))
    let isOver = false
    const { simulate: args } = run
    const fleet = simulatedFleet({ origin, fcm, runId: 'herd', args, mayEnd: () => isOver })
    const herds: Herd[] = []
    const drive = async () => {
      for (let nth = 1; nth <= run.restarts; nth += 1) {
        await eachHasBeaten(fleet, BEATS_BETWEEN)
        run.print(fleet.progress())
        const herd = await restart(run, lives, life, nth % 2 === 1 ? 'SIGTERM' : 'SIGKILL', fleet)
        life = herd.life
        herds.push(herd)
        run.print(`${herd.how}: all are back after ${(herd.returnMs / 1_000).toFixed(1)} s`)
      }
      await recounts
      isOver = true
    }
    const [summary, recount] = await Promise.all([fleet.run(), recounts, drive()])
    const { code } = await life.stop()
    const faults = lives.faults()
    return [
      summaryFigure(summary),
      answersFigure(summary, 'whoever is refused is told 503 or nothing, never 401', NOT_SERVED),
      await withClient(run.databaseUrl, (db) => nothingMissing(db, fleet.acknowledged)),
      recount,
      returnFigure(herds),
      readyFigure(lives.readyMs),
      {
        promise: 'no answer 500; SIGTERM at the end exits 0',
        measured: `${faults.length} answers 500 ${faults[0] ?? ''}; exit code ${code}`,
        isHeld: faults.length === 0 && code === 0,
      },
    ]
  } finally {
    await lives.destroy()
    await fcm.close()
  }
}

async function restart(
  run: HerdRun,
  lives: Lives,
  before: Replica,
  signal: 'SIGTERM' | 'SIGKILL',
  fleet: SimulatedFleet,
): Promise<Herd & { readonly life: Replica }> {
  before.signal(signal)
  await before.ended
  await wait(1_000 * run.awayS)
  const life = await lives.next({})
  const backAtMs = performance.now()
  const beating = fleet.fleet.beat()
  await eachHasBeaten(fleet, 1)
  const returnMs = performance.now() - backAtMs
  const residentMiB = residentBytes(life.pid) / MIB
  await beating
  return { life, how: signal, returnMs, residentMiB }
}

function returnFigure(herds: readonly Herd[]): Figure {
  return {
    promise: `the moment the service is back all phones beat at once, and each is heard within ${MOST_RETURN_MS / 1_000} s`,
    measured: herds
      .map(
        ({ how, returnMs, residentMiB }) =>
          `${how}: ${(returnMs / 1_000).toFixed(1)} s, ${residentMiB.toFixed(0)} MiB resident`,
      )
      .join('; '),
    isHeld: herds.every(({ returnMs }) => returnMs <= MOST_RETURN_MS),
    isTimed: true,
  }
}

function readyFigure(readyMs: readonly number[]): Figure {
  return {
    promise: 'ready within 2 s of each start, while phones knock',
    measured: readyMs.map((ms) => `${ms.toFixed(0)} ms`).join(', '),
    isHeld: readyMs.every((ms) => ms <= MOST_READY_MS),
    isTimed: true,
  }
}
