/** The phases of a simulation: until the service is ready, enrolling, until the run is over. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Send } from '../../testkit/http/client.ts'
import { issueEnrollmentTokens } from '../enroll.ts'
import type { Fleet } from '../fleet.ts'
import type { Admin } from './admin.ts'
import type { CommandLedger } from './ledger.ts'
import type { SimulationOptions } from './options.ts'
import type { Downloads } from './phones.ts'
import type { EndedBy } from './summary.ts'

/** The run could not begin; `message` is for the person at the terminal. */
export class SimulationError extends Error {
  override readonly name = 'SimulationError'
}

const POLL_MS = 50
const READY_POLL_MS = 250
const ENROLL_ROUNDS = 3
const ENROLL_PAUSE_MS = 1_000
const FETCHERS = 8
/** Limits: 200 tokens per admin and hour, 10 APK downloads per token and minute. */
const MIN_PHONES_PER_TOKEN = 10
const TOKENS = 100

export async function untilReady(
  send: Send,
  { origin, waitS }: SimulationOptions,
  signal: AbortSignal,
): Promise<void> {
  const deadlineAtMs = performance.now() + 1_000 * waitS
  for (;;) {
    const what = await send({ method: 'GET', path: '/readyz' }).then(
      ({ status }) => status,
      (error: Error) => error.message,
    )
    if (what === 200) return
    if (signal.aborted) throw new SimulationError('stopped before the service was ready')
    if (performance.now() >= deadlineAtMs) {
      throw new SimulationError(`${origin}/readyz is not ready after ${waitS} s: ${what}`)
    }
    await pause(READY_POLL_MS, signal)
  }
}

export async function untilOver(
  { minutes, heartbeats, maxCommands }: SimulationOptions,
  run: {
    readonly fleet: Fleet
    readonly admin: Admin
    readonly ledger: CommandLedger
    readonly signal: AbortSignal
    readonly mayEnd?: () => boolean
    readonly sending: AbortController
  },
): Promise<EndedBy> {
  const endAtMs = performance.now() + 60_000 * minutes
  while (!run.signal.aborted) {
    if (performance.now() >= endAtMs) return 'time'
    const isHeldBack = run.mayEnd?.() === false
    if (heartbeats !== null && !isHeldBack && haveBeaten(run.fleet, heartbeats)) {
      if (maxCommands === Infinity) run.sending.abort()
      if (run.admin.isIdle && isSettled(run)) return 'heartbeats'
    }
    await pause(POLL_MS, run.signal)
  }
  return 'signal'
}

/** A wiped phone does nothing, so its commands never run. */
function haveBeaten({ devices }: Fleet, heartbeats: number): boolean {
  return devices.every(
    ({ deviceId, counts }) => deviceId === null || counts.heartbeatsAccepted >= heartbeats,
  )
}

function isSettled({ fleet, ledger }: { readonly fleet: Fleet; readonly ledger: CommandLedger }) {
  const alive = fleet.devices.filter(({ deviceId }) => deviceId !== null)
  const aliases = new Set(alive.map(({ alias }) => alias))
  // Among many phones a heartbeat is always under way; it ends with the run.
  return alive.every(({ queue }) => queue.isUpToDate) && ledger.isSettled(aliases)
}

/** Tries each phone several times; returns the token of each alias. */
export async function enroll(
  { origin, adminToken, devices }: SimulationOptions,
  fleet: Fleet,
  send: Send,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const phonesPerToken = Math.max(MIN_PHONES_PER_TOKEN, Math.ceil(devices / TOKENS))
  const aliases = fleet.devices.map(({ alias }) => alias)
  const tokens = await issueEnrollmentTokens(send, adminToken, aliases, phonesPerToken).catch(
    (error: Error) => {
      throw new SimulationError(`${origin}: ${error.message}`)
    },
  )
  for (let round = 1; round <= ENROLL_ROUNDS && !signal.aborted; round += 1) {
    if (round > 1) await pause(ENROLL_PAUSE_MS, signal)
    await fleet.enroll(tokens, { signal })
    if (fleet.report().enrolled === devices) break
  }
  return tokens
}

/** The APK at enrollment, which a share of the phones fetches. */
export async function fetchSome(
  { apkShare }: SimulationOptions,
  fleet: Fleet,
  tokens: ReadonlyMap<string, string>,
  downloads: Downloads,
  signal: AbortSignal,
): Promise<void> {
  const fetching = fleet.devices.filter(() => Math.random() < apkShare)
  const fetchNext = async (): Promise<void> => {
    while (!signal.aborted) {
      const device = fetching.shift()
      if (device === undefined) return
      if (device.deviceId !== null) await downloads.fetch(device, tokens.get(device.alias))
    }
  }
  await Promise.all(Array.from({ length: FETCHERS }, fetchNext))
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await wait(ms, undefined, { signal }).catch(() => {})
}
