/**
 * A process of honest clients: phones at a fixed rate, a phone with a wrong request now and then, and an admin who
 * reads.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { type LoadReport, type LoadRequest, runLoad } from '../../sim/load/load.ts'
import { jsonHeaders } from '../../testkit/http/client.ts'
import { serve } from './child.ts'
import { HONEST, type HonestKind } from './honest-kinds.ts'

export interface HonestLoad {
  readonly origin: string
  readonly tokens: readonly string[]
  readonly adminToken: string
  readonly heartbeatsPerS: number
  /** The warm-up, at WARM_FACTOR times that rate. */
  readonly warmS: number
}

export type HonestQuestion =
  | ({ readonly do: 'start' } & HonestLoad)
  | { readonly do: 'window' }
  | { readonly do: 'stop' }

export interface HonestReply {
  /** Of heartbeats since the last question. */
  readonly p99Ms: number
  /** Only in the reply to `stop`. */
  readonly result: HonestResult | undefined
}

export interface HonestResult {
  readonly reports: HonestReports
  /** Request ids with the right status. */
  readonly answered: readonly string[]
}

/** Counts by kind of request and response. */
export type HonestReports = Readonly<Record<HonestKind, LoadReport>>

const CONNECTIONS = 64
const REFUSALS_PER_S = 10
const ADMIN_PER_S = 2
/** A cold service is slower and still grows, which would hide or exaggerate the effect of an attack. */
const WARM_FACTOR = 8
const US_PER_MS = 1_000
const BEAT = JSON.stringify({ status: 'ok', battery_pct: 80, network_type: 'wifi', uptime_s: 60 })
const RESULT = JSON.stringify({ request_id: 'of-nobody', outcome: 'success' })

const stopping = new AbortController()
const answered: string[] = []
let latencyUs: RecordableHistogram = createHistogram()
let reports: Promise<readonly [LoadReport, LoadReport, LoadReport]> | undefined

function beat(heads: readonly LoadRequest['headers'][], index: number): Omit<LoadRequest, 'id'> {
  const headers = heads[index % heads.length] ?? {}
  return { method: 'POST', path: '/v1/heartbeat', headers, body: BEAT }
}

/** Ignores the responses: a cold service may refuse some. */
async function warm({ origin, tokens, heartbeatsPerS, warmS }: HonestLoad): Promise<void> {
  const heads = tokens.map(jsonHeaders)
  await runLoad({
    origin,
    ratePerS: WARM_FACTOR * heartbeatsPerS,
    connections: CONNECTIONS,
    arrivals: WARM_FACTOR * heartbeatsPerS * warmS,
    signal: stopping.signal,
    next: (index) => ({ id: '', ...beat(heads, index) }),
  })
}

function start({ origin, tokens, adminToken, heartbeatsPerS }: HonestLoad): void {
  const heads = tokens.map(jsonHeaders)
  const admin = jsonHeaders(adminToken)
  const load = (
    ratePerS: number,
    kind: HonestKind,
    request: (index: number) => Omit<LoadRequest, 'id'>,
  ) =>
    runLoad({
      origin,
      ratePerS,
      connections: CONNECTIONS,
      signal: stopping.signal,
      next(index) {
        const id = `${HONEST[kind].id}${index}`
        const { headers, ...rest } = request(index)
        return { id, ...rest, headers: { ...headers, 'x-request-id': id } }
      },
      onAnswer({ id }, { status, latencyMs }) {
        if (status === HONEST[kind].status) answered.push(id)
        if (kind === 'heartbeats') latencyUs.record(Math.max(1, Math.round(latencyMs * US_PER_MS)))
      },
    })
  reports = Promise.all([
    load(heartbeatsPerS, 'heartbeats', (index) => beat(heads, index)),
    load(REFUSALS_PER_S, 'refusals', (index) => ({
      ...{ method: 'POST', path: '/v1/action-result', body: RESULT },
      headers: heads[index % heads.length] ?? {},
    })),
    load(ADMIN_PER_S, 'admin', () => ({
      ...{ method: 'GET', path: '/admin/devices?limit=1', headers: admin },
    })),
  ])
}

async function stop(): Promise<HonestResult> {
  stopping.abort()
  const [heartbeats, refusals, admin] = (await reports) ?? []
  if (!heartbeats || !refusals || !admin) throw new Error('no load was started')
  return { reports: { heartbeats, refusals, admin }, answered }
}

serve<HonestQuestion, HonestReply>(async (question) => {
  if (question.do === 'start') {
    await warm(question)
    start(question)
  }
  const p99Ms = latencyUs.percentile(99) / US_PER_MS
  latencyUs = createHistogram()
  return { p99Ms, result: question.do === 'stop' ? await stop() : undefined }
})
