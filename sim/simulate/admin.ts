/**
 * The admin of a simulation: sends commands at a steady rate, whatever the responses, and reads their state at the
 * end.
 */
import { setMaxListeners } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import {
  asJsonObject,
  bodyOf,
  type HttpRequest,
  type HttpResponse,
  jsonHeaders,
  type Send,
  textOf,
} from '../../testkit/http/client.ts'
import type { Report } from '../device/commands.ts'
import type { CommandLedger, FinalState } from './ledger.ts'

export interface AdminOptions {
  readonly send: Send
  readonly adminToken: string
  readonly ledger: CommandLedger
  readonly random: () => number
  /** Prefix of its command ids: `<runId>-c1` and so on. */
  readonly runId: string
  readonly commandsPerMinute: number
  readonly maxCommands: number
  readonly actions: readonly string[]
  readonly ttlS: number
  /** Alias of an enrolled phone; undefined without one. */
  readonly pickAlias: () => string | undefined
  readonly pickReport: () => Report
  readonly onAccepted: (requestId: string) => void
}

export interface Admin {
  /** false: it is sending, or waits for a response. */
  readonly isIdle: boolean
  /** Until `signal` aborts or all are sent; resolves when every call has ended. */
  sendCommands(signal: AbortSignal): Promise<void>
  /** Reads every command's state for the ledger. */
  readAll(): Promise<void>
}

const MINUTE_MS = 60_000
const MAX_IN_FLIGHT = 256
const READERS = 8
/** Calls without a response, or with a 5xx, are repeated under the same id. */
const TRIES = 5
const RETRY_MS = 1_000

export function createAdmin(options: AdminOptions): Admin {
  const { send, adminToken, ledger, random, actions } = options
  const inFlight = new Set<Promise<void>>()
  let sent = 0
  let isSending = false

  async function sendOne(alias: string, signal: AbortSignal): Promise<void> {
    sent += 1
    const requestId = `${options.runId}-c${sent}`
    const action = actions[Math.floor(random() * actions.length)] ?? ''
    const body = {
      alias,
      action,
      params: { n: `${sent}` },
      request_id: requestId,
      ttl_s: options.ttlS,
    }
    ledger.created(requestId, alias, options.pickReport())
    const response = await persistently(
      send,
      {
        method: 'POST',
        path: '/admin/command',
        headers: jsonHeaders(adminToken),
        body: JSON.stringify(body),
      },
      signal,
    )
    if (response === undefined || response.status >= 500) {
      ledger.unanswered(requestId)
      return
    }
    if (response.status >= 300) {
      ledger.refused(requestId)
      return
    }
    ledger.accepted(requestId, Date.parse(textOf(bodyOf(response), 'expires_at')))
    options.onAccepted(requestId)
  }

  async function readOne(requestId: string): Promise<void> {
    const headers = { authorization: `Bearer ${adminToken}` }
    const path = `/admin/commands/${requestId}`
    const response = await persistently(send, { method: 'GET', path, headers })
    if (response?.status === 404) ledger.ended(requestId, 'unknown', false)
    else if (response?.status !== 200) ledger.ended(requestId, 'unreadable', false)
    else {
      const command = bodyOf(response)
      const hasResult = asJsonObject(command['result']) !== undefined
      ledger.ended(requestId, finalState(textOf(command, 'status')), hasResult)
    }
  }

  return {
    get isIdle() {
      return !isSending && inFlight.size === 0
    },

    async sendCommands(signal) {
      isSending = options.commandsPerMinute > 0
      setMaxListeners(0, signal) // each retry waits on it
      const startedAtMs = performance.now()
      while (isSending && sent < options.maxCommands) {
        const dueAtMs = startedAtMs + ((sent + 1) * MINUTE_MS) / options.commandsPerMinute
        await wait(Math.max(0, dueAtMs - performance.now()), undefined, { signal }).catch(() => {})
        if (signal.aborted) break
        const alias = options.pickAlias()
        if (alias === undefined) break // all are wiped
        if (inFlight.size >= MAX_IN_FLIGHT) await Promise.race(inFlight)
        const work = sendOne(alias, signal).finally(() => inFlight.delete(work))
        inFlight.add(work)
      }
      isSending = false
      await Promise.all(inFlight)
    },

    async readAll() {
      const waiting = [...ledger.requestIds]
      const readNext = async (): Promise<void> => {
        for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) await readOne(id)
      }
      await Promise.all(Array.from({ length: READERS }, readNext))
    },
  }
}

/** Returns the last response; undefined without one. Stops trying once `signal` aborts. */
async function persistently(
  send: Send,
  request: HttpRequest,
  signal?: AbortSignal,
): Promise<HttpResponse | undefined> {
  for (let tries = 1; ; tries += 1) {
    const response = await send(request).catch(() => undefined)
    const isOver = tries === TRIES || signal?.aborted === true
    if ((response !== undefined && response.status < 500) || isOver) return response
    await wait(RETRY_MS, undefined, signal && { signal }).catch(() => {})
  }
}

function finalState(status: string): FinalState {
  return status === 'completed' || status === 'expired' || status === 'cancelled' ? status : 'open'
}
