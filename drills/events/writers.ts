/** Writers of events: each creates batches of enrollment tokens one after the other, and revokes one of each. */
import { setTimeout as wait } from 'node:timers/promises'
import { bodyOf, jsonHeaders, type Send } from '../../testkit/http/client.ts'

/** Tokens in a batch, as many as one request may create. */
export const BATCH = 100
/** In turn: counting the tokens of one admin's last hour takes time that grows with them. */
const ADMINS_OF_WRITER = 40
const RETRY_MS = 50

export interface WritersRun {
  readonly writers: number
  /** Batches of all writers. */
  readonly batches: number
  readonly send: Send
  /** Called before each batch, with its number among all. */
  readonly onBatch: (nth: number) => void
}

const tokenOf = (writer: number, admin: number) =>
  `drill-writer-${writer}-${admin}-Qd8vXr2kWz9mBt4sLh7cYp3n`

/** For ADMIN_TOKENS. */
export function writerTokens(writers: number): string {
  const all = Array.from({ length: writers * ADMINS_OF_WRITER }, (_, n) => {
    const [writer, admin] = [Math.floor(n / ADMINS_OF_WRITER), n % ADMINS_OF_WRITER]
    return `w${writer}-${admin}:enroll=${tokenOf(writer, admin)}`
  })
  return all.join(',')
}

/** Resolves once everything is acknowledged. */
export async function write(run: WritersRun): Promise<void> {
  let next = 0
  async function writer(index: number): Promise<void> {
    for (let batch = 0; next < run.batches; batch += 1) {
      const nth = next
      next += 1
      run.onBatch(nth)
      const token = tokenOf(index, batch % ADMINS_OF_WRITER)
      await writeBatch(run.send, token, `${index}-${batch}`)
    }
  }
  await Promise.all(Array.from({ length: run.writers }, (_, index) => writer(index)))
}

/** `name` is the note of its tokens, by which the check finds the order. */
async function writeBatch(send: Send, token: string, name: string): Promise<void> {
  const headers = { ...jsonHeaders(token), 'idempotency-key': name }
  const body = JSON.stringify({ aliases: Array(BATCH).fill(null), note: name })
  const made = await patiently(() =>
    send({ method: 'POST', path: '/v1/enroll-tokens', headers, body }),
  )
  const [first] = made['tokens'] as readonly { readonly token_id: string }[] // as openapi.json says
  const path = `/v1/enroll-tokens/${first?.token_id}`
  await patiently(() => send({ method: 'DELETE', path, headers: jsonHeaders(token) }))
}

/** Until it succeeds; a repeat changes nothing more. */
async function patiently(ask: () => ReturnType<Send>) {
  for (;;) {
    const response = await ask().catch(() => undefined)
    if (response !== undefined && response.status < 300) return bodyOf(response)
    if (response !== undefined && response.status < 500) {
      throw new Error(`${response.status} ${response.bytes}`)
    }
    await wait(RETRY_MS)
  }
}
