/** Requests of phones and admins in turn, at a fixed rate, and which writes were acknowledged. */

import {
  type LoadReport,
  type LoadRequest,
  type LoadResponse,
  runLoad,
} from '../../sim/load/load.ts'
import { seededDeviceId } from '../../testkit/database/seeded-fleet.ts'
import { jsonHeaders } from '../../testkit/http/client.ts'

export interface MixedLoadOptions {
  readonly origin: string
  readonly adminToken: string
  /** Of the seeded devices 1, 2, …, after the first `devicesBefore`. */
  readonly tokens: readonly string[]
  readonly devicesBefore?: number
  readonly ratePerS: number
  readonly onAnswer: (response: LoadResponse) => void
  readonly onFailure?: (request: LoadRequest) => void
  /** Prefix of its ids, so that a second load on the same database has others. */
  readonly series?: string
}

/** Ids of acknowledged writes: the request's for a heartbeat, the command's for itself and its result, the token's. */
export interface Acknowledged {
  readonly heartbeats: ReadonlySet<string>
  readonly commands: ReadonlySet<string>
  readonly results: ReadonlySet<string>
  readonly enrollmentTokens?: ReadonlySet<string>
}

export interface MixedLoad {
  readonly acknowledged: Acknowledged
  /** Ends the arrivals; resolves when all are answered. */
  stop(): Promise<LoadReport>
}

/** More than can be in flight: a request takes at most 2 s. */
const CONNECTIONS = 2_000
const TURNS = [
  ...['heartbeat', 'heartbeat', 'command', 'heartbeat', 'read'],
  ...['heartbeat', 'heartbeat', 'result', 'heartbeat', 'write'],
] as const
/**
 * Share of the writes. No admin enrolls 25 devices a second: counting the last hour for the limit would dominate the
 * load.
 */
const ENROLLMENT_EVERY = 10
const READS = [
  '/admin/devices?limit=1',
  '/admin/commands?limit=1',
  '/v1/enroll-tokens?limit=1',
  '/admin/audit?limit=1',
]

function post(
  id: string,
  path: string,
  headers: LoadRequest['headers'],
  body: object,
): LoadRequest {
  return { id, method: 'POST', path, headers, body: JSON.stringify(body) }
}

function tokenIdOf(body: Buffer): string {
  const { tokens } = JSON.parse(body.toString('utf8'))
  return String(tokens[0].token_id)
}

export function startMixedLoad(options: MixedLoadOptions): MixedLoad {
  const { acknowledged, next, take } = mixedRequests(options)
  const stopping = new AbortController()
  const report = runLoad({
    origin: options.origin,
    ratePerS: options.ratePerS,
    connections: CONNECTIONS,
    signal: stopping.signal,
    next,
    onFailure: (request) => options.onFailure?.(request),
    onAnswer(request, response) {
      take(request, response)
      options.onAnswer(response)
    },
  })
  return {
    acknowledged,
    stop() {
      stopping.abort()
      return report
    },
  }
}

/** `take` learns from each response what the next requests may be. */
function mixedRequests({ tokens, adminToken, series = '', devicesBefore = 0 }: MixedLoadOptions): {
  readonly acknowledged: Acknowledged
  next(index: number): LoadRequest
  take(request: LoadRequest, response: LoadResponse): void
} {
  const heartbeats = new Set<string>()
  const commands = new Set<string>()
  const results = new Set<string>()
  const enrollmentTokens = new Set<string>()
  const kept = { h: heartbeats, c: commands, r: results } as const
  /** Acknowledged commands without an acknowledged result, by device. */
  const open: { readonly id: string; readonly device: number }[] = []
  const deviceOf = new Map<string, number>()
  const admin = jsonHeaders(adminToken)
  const phones = tokens.map(jsonHeaders)

  function heartbeat(index: number, device: number): LoadRequest {
    const id = `h-${series}${index}`
    return post(id, '/v1/heartbeat', { ...phones[device], 'x-request-id': id }, { battery_pct: 50 })
  }

  function command(index: number, device: number): LoadRequest {
    const id = `c-${series}${index}`
    deviceOf.set(id, device)
    const body = {
      device_id: seededDeviceId(devicesBefore + device + 1),
      action: 'ring',
      request_id: id,
    }
    return post(id, '/admin/command?wait_ms=0', admin, body)
  }

  function next(index: number): LoadRequest {
    const device = index % tokens.length
    const turn = TURNS[index % TURNS.length]
    const round = Math.floor(index / TURNS.length)
    if (turn === 'command') return command(index, device)
    if (turn === 'result') {
      const ended = open.shift()
      if (ended === undefined) return heartbeat(index, device)
      const body = { request_id: ended.id, outcome: 'success' }
      deviceOf.set(`r-${ended.id}`, ended.device)
      return post(`r-${ended.id}`, '/v1/action-result', phones[ended.device] ?? {}, body)
    }
    if (turn === 'write') {
      return round % ENROLLMENT_EVERY > 0
        ? post('', '/v1/devices/fcm-token', phones[device] ?? {}, {
            fcm_token: `p-${devicesBefore}-${index}`,
          })
        : post(`t-${index}`, '/v1/enroll-tokens', admin, { aliases: [null], expires_in_sec: 60 })
    }
    if (turn === 'read') {
      const path = READS[round % READS.length] ?? ''
      return { id: '', method: 'GET', path, headers: admin }
    }
    return heartbeat(index, device)
  }

  return {
    acknowledged: { heartbeats, commands, results, enrollmentTokens },
    next,
    take({ id }, response) {
      const kind = id.charAt(0)
      const device = deviceOf.get(id)
      const isResult = kind === 'r'
      const name = isResult ? id.slice(2) : id
      if (response.status < 300 && (kind === 'h' || kind === 'c' || kind === 'r'))
        kept[kind].add(name)
      if (response.status < 300 && kind === 't') enrollmentTokens.add(tokenIdOf(response.body))
      // Reports a refused result again, as a phone does.
      const isOpen = response.status < 300 ? kind === 'c' : isResult
      if (isOpen && device !== undefined) open.push({ id: name, device })
      deviceOf.delete(id)
    },
  }
}
