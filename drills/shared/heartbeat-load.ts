/** Heartbeats at a fixed rate, one log line each, with the latencies of the current window. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import { type EnrolledDevice, enrollDevices } from '../../sim/enroll.ts'
import { type LoadReport, runLoad } from '../../sim/load/load.ts'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { LOAD_ID } from '../stdout/account.ts'

const POLL_MS = 150
/** Per load. */
export const LOAD_CONNECTIONS = 64
const US_PER_MS = 1_000

export async function awaitReady(origin: string): Promise<void> {
  const send = createSend(origin)
  while ((await send({ method: 'GET', path: '/readyz' })).status !== 200) await wait(POLL_MS)
}

export type Sender = Pick<EnrolledDevice, 'alias' | 'token'>

/** `count` devices, enrolled through the public API. */
export function enroll(
  origin: string,
  adminToken: string,
  count: number,
): Promise<readonly Sender[]> {
  const aliases = Array.from({ length: count }, (_, index) => `D${index}`)
  return enrollDevices(createSend(origin), adminToken, aliases)
}

export interface HeartbeatLoad {
  /** Starts a window; the returned function ends it and returns its p99, ms. */
  window(): () => number
  /** Ends the arrivals; resolves when all are answered. */
  stop(): Promise<LoadReport>
}

export function startHeartbeats(
  origin: string,
  senders: readonly Sender[],
  ratePerS: number,
): HeartbeatLoad {
  const heads = senders.map(({ token }) => jsonHeaders(token))
  const body = JSON.stringify({ status: 'ok', battery_pct: 80, network_type: 'wifi', uptime_s: 60 })
  const stopping = new AbortController()
  let latencyUs: RecordableHistogram | undefined
  const report = runLoad({
    origin,
    ratePerS,
    connections: LOAD_CONNECTIONS,
    signal: stopping.signal,
    next(index) {
      const id = `${LOAD_ID}${index}`
      const headers = { ...heads[index % heads.length], 'x-request-id': id }
      return { id, method: 'POST', path: '/v1/heartbeat', headers, body }
    },
    onAnswer: (_request, { latencyMs }) =>
      latencyUs?.record(Math.max(1, Math.round(latencyMs * US_PER_MS))),
  })

  return {
    window() {
      const own = createHistogram()
      latencyUs = own
      return () => {
        latencyUs = undefined
        return own.percentile(99) / US_PER_MS
      }
    },
    stop() {
      stopping.abort()
      return report
    },
  }
}
