/** `npm run drill -- sync-standby`: writes wait for a standby that is frozen, reads go on, nothing piles up. */
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type Postgres, withClient } from '../../testkit/database/postgres.ts'
import { seededDeviceId, seededToken } from '../../testkit/database/seeded-fleet.ts'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { ADMIN_TOKEN, HMAC_SECRET } from '../../testkit/service-settings.ts'
import { until } from '../../testkit/until.ts'
import { type DrillEnvironment, defineDrill, type Figure } from '../drill.ts'
import { codesText } from '../shared/response-watch.ts'
import { inTimeFigure, type OutageRig, onOutageRig, TWO_REPLICAS, together } from './rig.ts'
import { episodes, timed } from './run.ts'
import { startSynchronousStandby } from './standby.ts'

export interface SyncStandbyRun {
  readonly seconds: number
  readonly calmS: number
}

const REPLICAS = TWO_REPLICAS.replicas
/** The default of DATABASE_POOL_MAX. */
const POOL_MAX = 10
const MOST_BACKENDS = REPLICAS * POOL_MAX + 2
const SAMPLE_MS = 50
/** While it is frozen; a busy machine may answer it afterwards too. */
const BUSY = 503
const RESULT_OF = 'before-the-freeze'
/** Responses to commits from before the freeze may still be under way. */
const UNDER_WAY_MS = 500
const FELT_MS = 2_000
/** How long an operator cancels waiting commits. */
const CANCELLED_MS = 2_000
/** Per replica. */
const READS = 10
const BACKENDS = /* sql */ `
  select count(*)::int as "count" from pg_stat_activity
  where application_name like 'fleetloop%' and backend_type = 'client backend'`

export const syncStandbyDrill = defineDrill({
  name: 'sync-standby',
  promise:
    'a frozen synchronous standby: writes 503, reads go on, backends bounded, one episode, answers within 2 s',
  options: {
    seconds: { standard: 30, what: 'frozen' },
    rate: { standard: 20, what: 'requests a second, both replicas together' },
  },
  run: ({ seconds, rate }, place) => drillSyncStandby({ seconds, calmS: 3 }, rate, place),
})

export function drillSyncStandby(
  run: SyncStandbyRun,
  ratePerS: number,
  place: DrillEnvironment,
): Promise<readonly Figure[]> {
  let standby: Postgres | undefined
  const withStandby = async (primary: Postgres) => {
    standby = await startSynchronousStandby(
      primary,
      join(place.dir, 'postgres'),
      join(place.dir, 'standby'),
    )
  }
  return onOutageRig(
    place,
    ratePerS,
    async (rig) => (standby === undefined ? [] : runSyncStandby(run, rig, standby, place.print)),
    { ...TWO_REPLICAS, prepare: withStandby },
  ).finally(async () => {
    standby?.thaw()
    await standby?.stop()
  })
}

async function runSyncStandby(
  { seconds, calmS }: SyncStandbyRun,
  rig: OutageRig,
  standby: Postgres,
  print: (line: string) => void,
): Promise<readonly Figure[]> {
  await sendCommand(rig)
  await wait(1_000 * calmS)
  print(`calm: ${codesText(rig.answers.end())}`)
  const backends = watchBackends(rig.postgres.url)
  standby.freeze()
  print(`the standby is frozen for ${seconds} s`)
  await wait(UNDER_WAY_MS)
  const acknowledged = writesOf(rig)
  await sendResult(rig) // hangs
  await wait(FELT_MS - UNDER_WAY_MS)
  rig.answers.end()
  const feltAtMs = performance.now()
  await wait(1_000 * seconds - FELT_MS - CANCELLED_MS)
  await cancelWaits(rig.postgres.url, CANCELLED_MS)
  const repeatedStatus = await sendResult(rig)
  const readsLate = await reads(rig)
  const frozen = rig.answers.end()
  const ready = rig.seats.map(({ probes }) => probes.readyBetween(feltAtMs, performance.now()))
  const acknowledgedMeanwhile = writesOf(rig) - acknowledged
  standby.thaw()
  const thawedAtMs = performance.now()
  await wait(1_000 * calmS)
  const most = await backends.stop()
  let laterStatus = BUSY
  await until(async () => {
    laterStatus = await sendResult(rig)
    return laterStatus !== BUSY
  }).catch(() => {}) // the figure shows it
  print(`back: ${codesText(rig.answers.end())}`)
  return [
    {
      promise: `never more than ${REPLICAS} × ${POOL_MAX} + 2 backends`,
      measured: `${most} at most`,
      isHeld: most > 0 && most <= MOST_BACKENDS,
    },
    {
      promise: 'frozen: no write is acknowledged, not even by a cancel of its wait; reads go on',
      measured: `${codesText(frozen)}; ${acknowledgedMeanwhile} writes acknowledged, ${readsLate} of ${READS * REPLICAS} reads late`,
      isHeld: acknowledgedMeanwhile === 0 && readsLate === 0 && (frozen.byCode['200'] ?? 0) > 0,
      isTimed: acknowledgedMeanwhile === 0 && readsLate < READS, // a busy machine is late for some, not for half of them
    },
    {
      promise:
        'a result that is here, but not on the standby, is not acknowledged to who repeats it',
      measured: `${repeatedStatus} while it is frozen, ${laterStatus} afterwards`,
      isHeld: repeatedStatus === BUSY && laterStatus === 200,
    },
    inTimeFigure(frozen, 'frozen'),
    {
      promise: 'frozen: /readyz stays 503 from the third second on, on each replica',
      measured: `${ready.join(' and ')} answers 200`,
      isHeld: ready.every((count) => count === 0),
    },
    ...rig.seats.map(({ probes }, n) =>
      timed(
        `replica ${n}: /readyz is 200 within 2 s of the thaw`,
        probes.readyAfterMs(thawedAtMs, true),
      ),
    ),
    ...(await episodes(rig.seats)),
  ]
}

/** Cancelling the wait of a commit makes it succeed with a warning that the standby may not have it. */
function cancelWaits(url: string, forMs: number): Promise<void> {
  const endsAtMs = performance.now() + forMs
  return withClient(url, async (db) => {
    while (performance.now() < endsAtMs) {
      await db.query(
        `select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`,
      )
      await wait(SAMPLE_MS)
    }
  })
}

const sendCommand = (rig: OutageRig) =>
  send(rig, ADMIN_TOKEN, '/admin/command?wait_ms=0', {
    device_id: seededDeviceId(1),
    action: 'ring',
    request_id: RESULT_OF,
  })

/** The result of that command, the same each time. */
const sendResult = (rig: OutageRig) =>
  send(rig, seededToken(HMAC_SECRET, 1), '/v1/action-result', {
    request_id: RESULT_OF,
    outcome: 'success',
  })

/** Writes acknowledged so far. */
function writesOf({ seats }: OutageRig): number {
  const all = Object.values(together(seats.map(({ load }) => load.acknowledged)))
  return all.reduce((sum, ids: ReadonlySet<string>) => sum + ids.size, 0)
}

/** Sends to the first replica; returns the status. */
async function send(
  { origin }: OutageRig,
  token: string,
  path: string,
  body: object,
): Promise<number> {
  const sendNow = createSend(origin)
  const headers = jsonHeaders(token)
  return (await sendNow({ method: 'POST', path, headers, body: JSON.stringify(body) })).status
}

/** Returns how many were not answered at once; each is, after a while. */
async function reads({ seats }: OutageRig): Promise<number> {
  let late = 0
  for (const { origin } of seats) {
    const send = createSend(origin)
    for (let n = 0; n < READS; n += 1) {
      const headers = jsonHeaders(ADMIN_TOKEN)
      const isServed = async () =>
        (await send({ method: 'GET', path: '/admin/devices?limit=1', headers })).status === 200
      if (await isServed()) continue
      late += 1
      await until(isServed, 'a read beside a frozen standby')
    }
  }
  return late
}

/** `stop` returns the maximum. */
function watchBackends(url: string): { stop(): Promise<number> } {
  let isOver = false
  let most = 0
  const watching = withClient(url, async (db) => {
    while (!isOver) {
      const { rows } = await db.query<{ count: number }>(BACKENDS)
      most = Math.max(most, rows[0]?.count ?? 0)
      await wait(SAMPLE_MS)
    }
  })
  return {
    async stop() {
      isOver = true
      await watching
      return most
    },
  }
}
