/** The admin of a commands drill, who repeats each call with the same id until the service acknowledges it. */
import { setTimeout as wait } from 'node:timers/promises'
import {
  bodyOf,
  type HttpRequest,
  type HttpResponse,
  isSuccess,
  jsonHeaders,
  type Send,
} from '../../testkit/http/client.ts'
import type { JournalWriter } from './journal.ts'

export interface CommandOrder {
  readonly requestId: string
  readonly alias: string
  readonly ttlS: number
  /** How long the response may wait for the first push. */
  readonly waitMs: number
}

export interface CommandsAdmin {
  /** Resolves once a 2xx is in the journal. Rejects on refusals other than 408, 429 and 5xx. */
  create(order: CommandOrder): Promise<void>
  /** Leaves a command alone that has ended meanwhile. */
  cancel(requestId: string): Promise<void>
  /** Repeated calls, and those whose 2xx said that they repeat an earlier one, whose response was lost. */
  readonly counts: { readonly again: number; readonly duplicates: number }
}

const RETRY_MS = 100
const ENDED = 409
/** Statuses that ask for a repeat; 408 if the machine is too busy to send a body in time. */
const AGAIN: ReadonlySet<number> = new Set([408, 429])

export function createCommandsAdmin(
  send: Send,
  adminToken: string,
  journal: JournalWriter,
): CommandsAdmin {
  const counts = { again: 0, duplicates: 0 }
  const headers = jsonHeaders(adminToken)

  async function persistently(request: HttpRequest): Promise<HttpResponse> {
    for (;;) {
      const response = await send(request).catch(() => undefined)
      if (response !== undefined && response.status < 500 && !AGAIN.has(response.status))
        return response
      counts.again += 1
      await wait(RETRY_MS)
    }
  }

  return {
    counts,
    async create({ requestId, alias, ttlS, waitMs }) {
      const body = { request_id: requestId, alias, action: 'ring', ttl_s: ttlS }
      const response = await persistently({
        method: 'POST',
        path: `/admin/command?wait_ms=${waitMs}`,
        headers,
        body: JSON.stringify(body),
      })
      if (!isSuccess(response)) throw new Error(`${requestId} was refused: ${response.bytes}`)
      if (bodyOf(response)['duplicate'] === true) counts.duplicates += 1
      journal.accepted.add(requestId)
    },
    async cancel(requestId) {
      const path = `/admin/commands/${requestId}`
      const response = await persistently({ method: 'DELETE', path, headers })
      if (isSuccess(response)) journal.cancelled.add(requestId)
      else if (response.status !== ENDED) throw new Error(`no cancel: ${response.bytes}`)
    },
  }
}
