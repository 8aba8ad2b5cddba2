/** What must hold for each fault, over its rounds. */

import type { Figure } from '../drill.ts'
import { codesText, MAX_RESPONSE_MS, type Phase, sumOf } from '../shared/response-watch.ts'
import type { Fault } from './faults.ts'
import type { DatabaseEvent } from './service.ts'
import { type Gap, lengthMs } from './write-probes.ts'

export interface Suffered {
  readonly fault: Fault
  /** From 0. */
  readonly round: number
  readonly answers: Phase
  /** The times between direct writes on the machine that leads afterwards, the longest first. */
  readonly unwritable: readonly Gap[]
  /** The times between acknowledged writes, the longest first. */
  readonly unacknowledged: readonly Gap[]
  /** Of each replica. */
  readonly databaseEvents: readonly (readonly DatabaseEvent[])[]
  /** Requests without a whole response. */
  readonly unanswered: readonly string[]
  readonly missing: Figure
}

/** For the first acknowledged write, since the database takes writes again. */
const MOST_BACK_MS = 2_000
/** A longer outage must be logged; a shorter one may end before a statement fails. */
const TOLD_MS = 3_000
/** A shorter pause is a busy machine's. */
const PAUSE_MS = 1_000
const EXPECTED = /^(200|201|202|503 (db_unavailable|overloaded|shutting_down))$/

const NONE: Gap = { fromMs: 0, toMs: 0 }
const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`
const outageMs = ({ unacknowledged: [longest = NONE] }: Suffered) => lengthMs(longest)
/** 0: the service did not pause. */
function backMs(one: Suffered): number {
  const { toMs } = one.unacknowledged[0] ?? NONE
  return outageMs(one) < PAUSE_MS ? 0 : Math.max(0, toMs - (one.unwritable[0] ?? NONE).toMs)
}
/** A cluster may fail again as it heals, so that direct writes pause, too. */
const outagesOf = ({ unwritable }: Suffered) =>
  Math.max(1, unwritable.filter((gap) => lengthMs(gap) >= PAUSE_MS).length)

const eventsText = (events: readonly DatabaseEvent[]) => events.join('-') || 'none'

/** One pair per outage, or none if it is short. A process that ended during the outage may have written the first line. */
function isToldOnce(events: readonly DatabaseEvent[], one: Suffered): boolean {
  if (events.length === 0) return outageMs(one) < TOLD_MS
  const text = eventsText(events).replace(/^unavailable-ended-(?=unavailable)/, '')
  const isPaired = /^(unavailable-recovered-)*unavailable-(recovered|ended)$/.test(text)
  return isPaired && text.split('unavailable').length - 1 <= outagesOf(one)
}

export function sufferedText(one: Suffered): string {
  const { fault, round, answers: responses, databaseEvents, unanswered, missing } = one
  return [
    `${fault.name} ${round + 1}: no write acknowledged for ${seconds(outageMs(one))}, the first ${seconds(backMs(one))} after the leader took one`,
    `  ${codesText(responses)}; slowest ${seconds(responses.slowestMs)}, ${responses.late} later than 2 s; without an answer: ${unanswered.join(', ') || 'none'}`,
    `  episodes of ${outagesOf(one)} outages: ${databaseEvents.map(eventsText).join(' | ')}; ${missing.measured}`,
  ].join('\n')
}

export function faultFigures(suffered: readonly Suffered[]): readonly Figure[] {
  const names = [...new Set(suffered.map(({ fault }) => fault.name))]
  return names.flatMap((name) => figuresOf(suffered.filter(({ fault }) => fault.name === name)))
}

function figuresOf(rounds: readonly Suffered[]): readonly Figure[] {
  const [first] = rounds
  if (first === undefined) return []
  const { name, what } = first.fault
  const times = `${name} (${what}), ${rounds.length} times`
  const responses = sumOf(rounds.map((round) => round.answers))
  const odd = Object.keys(responses.byCode).filter((code) => !EXPECTED.test(code))
  const outages = rounds.map((round) => seconds(outageMs(round)))
  const unanswered = rounds.flatMap((round) => round.unanswered)
  const episodes = rounds.flatMap((round) =>
    round.databaseEvents.map((events) => ({ events, isOne: isToldOnce(events, round) })),
  )
  return [
    {
      promise: `${times}: only 2xx and 503 with Retry-After, zero 401`,
      measured: `${codesText(responses)}; ${responses.mute} without Retry-After, ${unanswered.length} without an answer`,
      isHeld: odd.length === 0 && responses.mute === 0 && unanswered.length === 0,
    },
    {
      promise: `${name}: the first write is acknowledged within 2 s of the leader taking one`,
      measured: `${rounds.map((round) => seconds(backMs(round))).join(', ')}, after outages of ${outages.join(', ')}`,
      isHeld: rounds.every((round) => backMs(round) <= MOST_BACK_MS),
      isTimed: true,
    },
    {
      promise: `${name}: every answer within 2 s`,
      measured: `slowest ${seconds(responses.slowestMs)}, ${responses.late} later than ${seconds(MAX_RESPONSE_MS)}`,
      isHeld: responses.late === 0,
      isTimed: true,
    },
    {
      promise: `${name}: one db.unavailable and one db.recovered per replica and outage`,
      measured: `${episodes.map(({ events }) => eventsText(events)).join(' | ')}; outages: ${rounds.map(outagesOf).join(', ')}`,
      isHeld: episodes.every(({ isOne }) => isOne),
    },
    {
      promise: `${name}: no acknowledged write is missing`,
      measured: rounds.map(({ missing }) => missing.measured).join('; '),
      isHeld: rounds.every(({ missing }) => missing.isHeld),
    },
  ]
}
