/** Promises R3 (PostgreSQL stopped) and R4 (frozen), under load: the responses, and the time to recover. */
import { setTimeout as wait } from 'node:timers/promises'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { watchMemory } from '../../testkit/processes.ts'
import type { Replica } from '../../testkit/service.ts'
import { ADMIN_TOKEN } from '../../testkit/service-settings.ts'
import type { Figure } from '../drill.ts'
import { codesText, type Phase, sumOf } from '../shared/response-watch.ts'
import { inTimeFigure, type OutageRig, type Seat } from './rig.ts'

export interface OutageRun {
  readonly kind: 'stopped' | 'frozen'
  readonly seconds: number
  /** Before and after. */
  readonly calmS: number
  /** Requests afterwards, to find a poisoned connection. */
  readonly probes: number
}

const MOST_MS = 2_000
const MOST_MORE_MIB = 32
const AT_ONCE = 20
const TOLD_MS = 30_000
const POLL_MS = 20
const MIB = 2 ** 20

export async function runOutage(
  run: OutageRun,
  rig: OutageRig,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  const memory = watchMemory(rig.service.pid)
  const linesBefore = rig.service.databaseLines.length
  await wait(1_000 * run.calmS)
  const calm = rig.answers.end()
  print(`calm: ${codesText(calm)}; slowest ${calm.slowestMs.toFixed(0)} ms`)
  const beforeMiB = memory.takePeak() / MIB

  print(`PostgreSQL is ${run.kind} for ${run.seconds} s`)
  const awayAtMs = performance.now()
  if (run.kind === 'frozen') rig.postgres.freeze()
  else await rig.postgres.stop()
  await wait(MOST_MS)
  const turning = rig.answers.end()
  const turnedAtMs = performance.now()
  await wait(Math.max(0, 1_000 * run.seconds - MOST_MS))
  const away = rig.answers.end()
  const awayMiB = memory.takePeak() / MIB
  const ready = rig.probes.readyBetween(turnedAtMs, performance.now())

  const success = rig.answers.success().then(() => performance.now())
  if (run.kind === 'frozen') rig.postgres.thaw()
  else await rig.postgres.start()
  const backAtMs = performance.now()
  const firstSuccessMs = Math.max(0, (await success) - backAtMs)
  await wait(1_000 * run.calmS)
  memory.stop()
  print(`back: ${codesText(rig.answers.end())}`)
  const poisoned = await probe(rig, run.probes)
  await untilTold(rig.service, linesBefore + 2)
  return [
    inTimeFigure(sumOf([turning, away]), `${run.kind} for ${run.seconds} s`),
    onlyRefusals(away),
    timed(`${run.kind}: /readyz is 503 within 2 s`, rig.probes.readyAfterMs(awayAtMs, false)),
    {
      promise: `${run.kind}: /readyz stays 503 until it is back`,
      measured: `${ready} answers 200 from the third second on`,
      isHeld: ready === 0,
    },
    timed(`${run.kind}: the first 2xx within 2 s after it is back`, firstSuccessMs),
    timed(
      `${run.kind}: /readyz is 200 within 2 s after it is back`,
      rig.probes.readyAfterMs(backAtMs, true),
    ),
    {
      promise: `${run.kind}: memory + at most ${MOST_MORE_MIB} MiB`,
      measured: `peaks of resident memory: ${beforeMiB.toFixed(1)} MiB before, ${awayMiB.toFixed(1)} MiB meanwhile`,
      isHeld: awayMiB - beforeMiB <= MOST_MORE_MIB,
      isTimed: true,
    },
    soundFigure(poisoned, run),
    episodeFigure(rig.service.databaseLines.slice(linesBefore), 1),
  ]
}

function onlyRefusals(away: Phase): Figure {
  const codes = Object.keys(away.byCode)
  return {
    promise: 'while it is away (from the third second on) every answer is 503',
    measured: codesText(away),
    isHeld: codes.length > 0 && codes.every((code) => code.startsWith('503 ')),
  }
}

/** One line at the beginning of each episode, one at its end. */
export function episodeFigure(lines: readonly string[], count: number): Figure {
  const told = lines.map((line) => JSON.parse(line))
  const events = told.map(({ event }) => event)
  const expected = Array.from({ length: count }, () => ['db.unavailable', 'db.recovered']).flat()
  return {
    promise: 'db.unavailable and db.recovered once per episode',
    measured: `${count} of them: ${told.map(({ ts, error, down_ms }) => `${ts.slice(14)} ${error ?? `back after ${down_ms} ms`}`).join('; ')}`,
    isHeld: events.join() === expected.join(),
  }
}

/** One episode of each replica since its start. */
export async function episodes(seats: readonly Seat[]): Promise<readonly Figure[]> {
  await Promise.all(seats.map(({ service }) => untilTold(service, 2)))
  return seats.map(({ service }) => episodeFigure(service.databaseLines, 1))
}

export function timed(promise: string, tookMs: number | undefined): Figure {
  return {
    promise,
    measured: tookMs === undefined ? 'never' : `after ${tookMs.toFixed(0)} ms`,
    isHeld: tookMs !== undefined && tookMs <= MOST_MS,
    isTimed: tookMs !== undefined, // never is not a matter of the machine
  }
}

/** Waits until the service has logged so many lines about its database, or until the time is over. */
export async function untilTold(service: Replica, lines: number): Promise<void> {
  const endsAtMs = performance.now() + TOLD_MS
  while (service.databaseLines.length < lines && performance.now() < endsAtMs) await wait(POLL_MS)
}

export function soundFigure(poisoned: readonly string[], { probes }: { probes: number }): Figure {
  return {
    promise: 'no poisoned connection afterwards',
    measured: `${poisoned.length} of ${probes} probes not 200 ${[...new Set(poisoned)].join()}`,
    isHeld: poisoned.length === 0,
    isTimed: true, // a busy machine causes time-outs of its own
  }
}

/** Returns how many responses were not 200. */
export async function probe(rig: OutageRig, count: number): Promise<readonly string[]> {
  const send = createSend(rig.origin)
  const bad: string[] = []
  let asked = 0
  const askNext = async (): Promise<void> => {
    while (asked < count) {
      const n = asked++
      const token = rig.spareTokens[n % rig.spareTokens.length] ?? ''
      const response = await (n % 2 === 0
        ? send({
            method: 'GET',
            path: '/admin/devices?limit=1',
            headers: jsonHeaders(ADMIN_TOKEN),
          })
        : send({ method: 'POST', path: '/v1/heartbeat', headers: jsonHeaders(token), body: '{}' })
      ).then(
        ({ status }) => String(status),
        (error: Error) => error.message,
      )
      if (response !== '200') bad.push(response)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, askNext))
  return bad
}
