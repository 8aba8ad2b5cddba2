/** Runs the fuzzer (R8): sends the requests over many connections and collects the outcome. */
import type { RouteShape } from '../../src/http/route.ts'
import type { StrictResponse } from '../../testkit/http/strict-reader.ts'
import { FuzzClient, type FuzzListener } from './client.ts'
import { fuzzFlood, fuzzManner } from './delivery.ts'
import { sendFlood } from './flood.ts'
import type { LinesOracle } from './lines.ts'
import { problemCode } from './oracle.ts'
import { type FuzzRequest, fuzzRequest } from './requests.ts'
import type { FuzzWorld } from './world.ts'

export interface FuzzRun {
  readonly origin: string
  readonly world: FuzzWorld
  readonly routes: readonly RouteShape[]
  readonly seed: number
  readonly requests: number
  readonly connections: number
  readonly lines: LinesOracle
  /** Called for each request, with its number from 1. */
  readonly onProgress?: (sent: number) => void
}

export interface FuzzReport {
  readonly sent: number
  readonly mutated: number
  readonly aborted: number
  /** Mutated ones that were no whole request: closed without a response. */
  readonly silent: number
  readonly answered: number
  /** Responses beyond the first to one damaged request. */
  readonly further: number
  /** Connections that only sent floods. */
  readonly floods: number
  readonly byStatus: Readonly<Record<string, number>>
  /** 5xx by code. */
  readonly byCode: Readonly<Record<string, number>>
  /** The first ones, with the request. */
  readonly faults: readonly string[]
}

const MAX_FAULTS = 20
/** Requests between two floods. */
const FLOOD_EVERY = 1_000
const SHOWN_BYTES = 700
const SECRETS = /[ed]t_[A-Za-z0-9_-]{43}|(?<=(?:Bearer|Basic|Token:) )[^\s\\"]+/g

/** Resolves when all requests have ended. */
export async function runFuzz(run: FuzzRun): Promise<FuzzReport> {
  const counts = { sent: 0, mutated: 0, aborted: 0, silent: 0, answered: 0, further: 0, floods: 0 }
  const byStatus: Record<string, number> = {}
  const byCode: Record<string, number> = {}
  const faults: string[] = []
  function count(response: StrictResponse): void {
    byStatus[response.status] = (byStatus[response.status] ?? 0) + 1
    if (response.status >= 500) {
      const code = problemCode(response) ?? 'to a HEAD'
      byCode[code] = (byCode[code] ?? 0) + 1
    }
    run.lines.answer(response)
  }
  const listener: FuzzListener = {
    onAnswer(_, response) {
      counts.answered += 1
      count(response)
    },
    onFurtherAnswer(response) {
      counts.further += 1
      count(response)
    },
    onSilence: () => {
      counts.silent += 1
    },
    onFault(request, what) {
      if (faults.length < MAX_FAULTS) faults.push(`${what}\n    ${shown(request)}`)
    },
  }

  function take(): FuzzRequest {
    const request = fuzzRequest(run.world, run.routes, run.seed, counts.sent)
    counts.sent += 1
    if (request.isMutated) counts.mutated += 1
    if (request.isAborted) counts.aborted += 1
    run.onProgress?.(counts.sent)
    return request
  }

  async function flood(index: number): Promise<void> {
    counts.floods += 1
    const fault = await sendFlood(run.origin, fuzzFlood(run.seed, index))
    if (fault !== undefined && faults.length < MAX_FAULTS) faults.push(`flood ${index}: ${fault}`)
  }

  async function work(): Promise<void> {
    const client = new FuzzClient(run.origin, listener)
    while (counts.sent < run.requests) {
      if (counts.floods * FLOOD_EVERY <= counts.sent) await flood(counts.floods)
      const manner = fuzzManner(run.seed, counts.sent)
      const count = Math.min(manner.pipelined, run.requests - counts.sent)
      const some = Array.from({ length: count }, take)
      const isAlone = ({ isMutated, isAborted }: FuzzRequest) => isMutated || isAborted
      await client.send(
        some.filter((request) => !isAlone(request)),
        manner,
      )
      for (const request of some.filter(isAlone)) await client.send([request])
    }
    client.close()
  }
  await Promise.all(Array.from({ length: run.connections }, work))
  return { ...counts, byStatus, byCode, faults }
}

function shown({ index, bytes, isMutated }: FuzzRequest): string {
  const text = JSON.stringify(bytes.toString('latin1', 0, SHOWN_BYTES)).replace(SECRETS, '…')
  return `request ${index}${isMutated ? ', mutated' : ''}: ${text}`
}
