/** A process that only requests /healthz every 50 ms, each time on a new connection, as a supervisor does. */
import { setTimeout as wait } from 'node:timers/promises'
import { LoadConnection } from '../../sim/load/connection.ts'
import { serve } from './child.ts'

/** `start` once; then each `read` returns the probes since the last one. */
export type ProbeQuestion =
  | { readonly do: 'start'; readonly port: number }
  | { readonly do: 'read' }

export interface ProbeReply {
  readonly asked: number
  /** Not answered, or not with 200. */
  readonly failed: number
  /** From connect to the last byte; the probe under way counts with its age. */
  readonly worstMs: number
  /** Delay of a timer of this process: the machine's share of `worstMs`. */
  readonly lateMs: number
}

const EVERY_MS = 50
/** Longer than any stall ever measured. */
const TIMEOUT_MS = 150_000
const TICK_MS = 10
const REQUEST = 'GET /healthz HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n'

let asked = 0
let failed = 0
let worstMs = 0
let lateMs = 0
let underWaySinceMs: number | undefined

async function ask(port: number): Promise<void> {
  const sinceMs = performance.now()
  underWaySinceMs = sinceMs
  const connection = new LoadConnection({ host: '127.0.0.1', port }, () => {})
  const timer = setTimeout(() => connection.destroy(), TIMEOUT_MS)
  const status = await new Promise((resolve) =>
    connection.send(REQUEST, (response) => resolve(response?.status)),
  )
  clearTimeout(timer)
  connection.destroy()
  underWaySinceMs = undefined
  asked += 1
  if (status !== 200) failed += 1
  worstMs = Math.max(worstMs, performance.now() - sinceMs)
}

async function askOn(port: number): Promise<never> {
  for (;;) {
    await ask(port)
    await wait(EVERY_MS)
  }
}

function watchTimer(): void {
  let dueAtMs = performance.now() + TICK_MS
  setInterval(() => {
    const nowMs = performance.now()
    lateMs = Math.max(lateMs, nowMs - dueAtMs)
    dueAtMs = nowMs + TICK_MS
  }, TICK_MS)
}

serve<ProbeQuestion, ProbeReply>(async (question) => {
  if (question.do === 'start') {
    void askOn(question.port)
    watchTimer()
  }
  const ageMs = underWaySinceMs === undefined ? 0 : performance.now() - underWaySinceMs
  const reply = { asked, failed, worstMs: Math.max(worstMs, ageMs), lateMs }
  asked = 0
  failed = 0
  worstMs = 0
  lateMs = 0
  return reply
})
