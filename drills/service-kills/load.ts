/**
 * The load of promise R1: heartbeats at a fixed rate, living phones, and commands that are repeated until
 * acknowledged.
 */
import { setTimeout as wait } from 'node:timers/promises'
import type { Fleet } from '../../sim/fleet.ts'
import { type LoadReport, runLoad } from '../../sim/load/load.ts'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { createCommandsAdmin } from '../commands/admin.ts'
import type { JournalWriter } from '../commands/journal.ts'
import { enroll } from '../shared/heartbeat-load.ts'

export interface KillsLoadOptions {
  readonly origin: string
  readonly adminToken: string
  readonly journal: JournalWriter
  readonly fleet: Fleet
  readonly heartbeatsPerS: number
  readonly commandsPerS: number
}

export interface KillsLoad {
  /** Resolves with the report on the heartbeats, once every request is settled and every command acknowledged. */
  stop(): Promise<LoadReport>
}

const SENDERS = 50
const CONNECTIONS = 500
const TTL_S = 86_400

export async function startKillsLoad(options: KillsLoadOptions): Promise<KillsLoad> {
  const { origin, adminToken, journal, fleet } = options
  const senders = await enroll(origin, adminToken, SENDERS)
  const heads = senders.map(({ token }) => jsonHeaders(token))
  const admin = createCommandsAdmin(createSend(origin), adminToken, journal)
  const stopping = new AbortController()
  const { signal } = stopping

  async function order(): Promise<void> {
    const orders: Promise<void>[] = []
    for (let n = 0; !signal.aborted; n += 1) {
      const alias = fleet.devices[n % fleet.devices.length]?.alias ?? ''
      orders.push(admin.create({ requestId: `r1-${n}`, alias, ttlS: TTL_S, waitMs: 0 }))
      await wait(1_000 / options.commandsPerS, undefined, { signal }).catch(() => {})
    }
    await Promise.all(orders)
  }

  const heartbeats = runLoad({
    origin,
    ratePerS: options.heartbeatsPerS,
    connections: CONNECTIONS,
    signal,
    next(index) {
      const id = `load-${index}`
      const headers = { ...heads[index % heads.length], 'x-request-id': id }
      return { id, method: 'POST', path: '/v1/heartbeat', headers, body: '{"battery_pct":50}' }
    },
    journal: { acknowledge: (id) => void journal.heartbeats.add(id), close: () => {} },
  })
  const all = Promise.all([heartbeats, order(), fleet.live(signal)])

  return {
    async stop() {
      stopping.abort()
      const [report] = await all
      return report
    },
  }
}
