/**
 * `npm run drill -- R10`: two replicas behind a balancer that learns only from /readyz, ended by SIGTERM and started
 * again in turn, under load. HTTPS is required; the balancer connects from an address that is not loopback.
 */
import { connect, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { withClient } from '../../testkit/database/postgres.ts'
import { seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { freePort } from '../../testkit/listen.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'
import { ADMIN_TOKEN, HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import { until } from '../../testkit/until.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import { type Balancer, startBalancer } from '../shared/balancer.ts'
import { startMixedLoad } from '../shared/mixed-load.ts'
import { codesText, ResponseWatch } from '../shared/response-watch.ts'
import { withExternalAddress } from './external-address.ts'

export interface RollingRun extends DatabaseEnvironment {
  readonly terms: number
  readonly ratePerS: number
  readonly drainMs: number
  /** Every so many SIGTERMs, from the first on, silent and half-sent sockets are open; 0: never. */
  readonly stuckEvery: number
}

const GRACE_MS = 15_000
/** Warm-up: before it, service, load and balancer are slow. */
const UNDER_WAY_MS = 5_000
const PHONES = 200
/**
 * Statuses of a machine that is too slow, and, without a code, of a balancer without a ready backend. A failing
 * shutdown causes none of them.
 */
const BUSY: ReadonlySet<string> = new Set(['503', '503 overloaded', '503 db_unavailable'])
const STUCK = 10
const ASKED_PLAINLY = 20

interface Seat {
  readonly origin: string
  life: Replica
}

export const rollingDrill = defineDrill({
  name: 'R10',
  promise:
    'rolling SIGTERMs behind a balancer that learns only from /readyz once a second: 0 failed requests, exit within the grace',
  options: {
    terms: { standard: 100, what: 'SIGTERMs, to two replicas in turn' },
    rate: { standard: 500, what: 'requests a second: heartbeats, commands, results, reads' },
    'drain-ms': { standard: 5_000, what: 'SHUTDOWN_DRAIN_MS' },
    'stuck-every': {
      standard: 20,
      what: 'at every so-manieth, silent and half-sent sockets are open',
    },
  },
  needs: 'postgres',
  run: ({ terms, rate, 'drain-ms': drainMs, 'stuck-every': stuckEvery }, environment) =>
    runRolling({ ...environment, terms, ratePerS: rate, drainMs, stuckEvery }),
})

export function runRolling(run: RollingRun): Promise<readonly Figure[]> {
  return withExternalAddress((address) => runAt(run, address))
}

async function runAt(run: RollingRun, address: string): Promise<readonly Figure[]> {
  const settings = {
    HOST: address,
    TRUSTED_PROXIES: address,
    ...serviceSettings(run.databaseUrl, run.dataDir),
    HEARTBEAT_DEDUP_WINDOW_S: '0',
    RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    SHUTDOWN_DRAIN_MS: String(run.drainMs),
    SHUTDOWN_GRACE_MS: String(GRACE_MS),
  }
  const lives: Replica[] = []
  const start = async (port: number): Promise<Replica> => {
    const life = startReplica({ settings, port })
    lives.push(life)
    await life.ready
    return life
  }
  const take = async (): Promise<Seat> => {
    const life = await start(await freePort()) // one that is still free when it restarts
    return { life, origin: await life.origin }
  }
  let balancer: Balancer | undefined
  try {
    const seats = [await take(), await take()] // the first one migrates
    await withClient(run.databaseUrl, (db) => seedFleet(db, HMAC_SECRET, PHONES))
    const tokens = Array.from({ length: PHONES }, (_, n) => seededToken(HMAC_SECRET, n + 1))
    const backends = seats.map(({ origin }) => origin)
    const plainly = await askPlainly(backends, address, tokens[0] ?? '')
    const through = await startBalancer({ backends, localAddress: address, forwards: true })
    balancer = through
    await until(() => backends.every(through.isReady))
    const responses = new ResponseWatch()
    const load = startMixedLoad({
      origin: through.origin,
      adminToken: ADMIN_TOKEN,
      tokens,
      ratePerS: run.ratePerS,
      onAnswer: responses.take,
    })
    await wait(UNDER_WAY_MS)
    const exits: Exit[] = []
    for (let term = 1; term <= run.terms; term += 1) {
      const seat = seats[term % seats.length]
      if (seat === undefined) throw new Error('no replica')
      const isStuck = run.stuckEvery > 0 && (term - 1) % run.stuckEvery === 0
      exits.push(await endInOrder(seat, isStuck, tokens[0] ?? ''))
      seat.life = await start(Number(new URL(seat.origin).port))
      await until(() => through.isReady(seat.origin))
      if (term % 10 === 0) run.print(`${term} of ${run.terms}: ${codesText(responses.end())}`)
    }
    const report = await load.stop()
    responses.end()
    const { byCode, slowestMs } = responses.sum
    const bad = Object.keys(byCode).filter((code) => !/^2\d\d$/.test(code))
    const faults = lives.flatMap(({ faultLines }) => faultLines)
    return [
      {
        promise: `0 failed requests, with a balancer at ${address} that learns only from /readyz once a second`,
        measured: `${run.terms} SIGTERMs, ${report.sent} requests: ${codesText(responses.sum)}; ${report.failed} without an answer, ${report.shed} never sent; slowest ${(slowestMs / 1_000).toFixed(2)} s`,
        isHeld: bad.length === 0 && report.failed === 0 && report.shed === 0 && report.sent > 0,
        isTimed: bad.every((code) => BUSY.has(code)) && report.failed === 0 && report.shed === 0,
      },
      await withClient(run.databaseUrl, (db) => nothingMissing(db, load.acknowledged)),
      ...exitFigures(exits),
      {
        promise: `HTTPS required, the balancer's address in TRUSTED_PROXIES: without X-Forwarded-Proto 403`,
        measured: plainly.join(', '),
        isHeld: plainly.join() === `${ASKED_PLAINLY} × 403 https_required`,
      },
      { promise: 'no answer 500', measured: `${faults.length}`, isHeld: faults.length === 0 },
    ]
  } finally {
    await balancer?.close()
    for (const life of lives) life.signal('SIGKILL')
    await Promise.all(lives.map(({ ended }) => ended))
  }
}

/** Responses to a balancer that does not forward that the client used HTTPS. */
async function askPlainly(
  backends: readonly string[],
  localAddress: string,
  token: string,
): Promise<readonly string[]> {
  const balancer = await startBalancer({ backends, localAddress, forwards: false })
  try {
    await until(() => backends.every(balancer.isReady))
    const send = createSend(balancer.origin)
    const responses = new ResponseWatch()
    for (let asked = 0; asked < ASKED_PLAINLY; asked += 1) {
      const headers = jsonHeaders(token)
      const request = { method: 'POST', path: '/v1/heartbeat', headers, body: '{}' } as const
      const { status, bytes } = await send(request)
      responses.take({ status, retryAfterS: null, latencyMs: 0, body: bytes })
    }
    const { byCode } = responses.end()
    return Object.entries(byCode).map(([code, count]) => `${count} × ${code}`)
  } finally {
    await balancer.close()
  }
}

interface Exit {
  readonly tookMs: number
  readonly code: number | null
  readonly isStuck: boolean
}

async function endInOrder({ life, origin }: Seat, isStuck: boolean, token: string): Promise<Exit> {
  const sockets = isStuck ? await openStuck(origin, token) : []
  const startedAtMs = performance.now()
  const { code } = await life.stop()
  const tookMs = performance.now() - startedAtMs
  for (const socket of sockets) socket.destroy()
  return { tookMs, code, isStuck }
}

/** Sockets that never send a byte, stop within the head, or within the body. */
async function openStuck(origin: string, token: string): Promise<readonly Socket[]> {
  const { hostname, port } = new URL(origin)
  const request = `POST /v1/heartbeat HTTP/1.1\r\nhost: x\r\nx-forwarded-proto: https\r\nauthorization: Bearer ${token}\r\n`
  const starts = ['', 'POST /v1/heart', `${request}content-length: 100\r\n\r\n{"sta`]
  const opening = starts.flatMap((bytes) =>
    Array.from({ length: STUCK }, async () => {
      const socket = connect(Number(port), hostname)
      socket.on('error', () => {}) // the service closes it
      await new Promise((resolve) => socket.once('connect', resolve))
      socket.write(bytes)
      return socket
    }),
  )
  return Promise.all(opening)
}

function exitFigures(exits: readonly Exit[]): readonly Figure[] {
  const kinds = new Set(exits.map((exit) => exit.isStuck))
  return [...kinds].map((isStuck) => {
    const those = exits.filter((exit) => exit.isStuck === isStuck)
    const longestMs = Math.max(0, ...those.map(({ tookMs }) => tookMs))
    const codes = [...new Set(those.map(({ code }) => code))]
    const stuck = `${STUCK} silent, ${STUCK} half-sent heads and ${STUCK} half-sent bodies open`
    return {
      promise: `exit 0 within the grace of ${GRACE_MS / 1_000} s${isStuck ? `, with ${stuck}` : ''}`,
      measured: `${those.length} exits, codes ${codes.join()}; at most ${(longestMs / 1_000).toFixed(2)} s`,
      isHeld: longestMs <= GRACE_MS && codes.every((code) => code === 0),
    }
  })
}
