/** One service under attack, and what watches it: honest clients, a prober, its memory, its log. */

import { createSend, type Send } from '../../testkit/http/client.ts'
import { residentBytes } from '../../testkit/processes.ts'
import {
  type Ended,
  type Replica,
  START_ARGS,
  startReplica,
  withMaxOpenFiles,
} from '../../testkit/service.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import type { Assault, AssaultReport } from './attackers/assault.ts'
import { type Child, startChild } from './child.ts'
import type { Environment } from './environment.ts'
import type { HonestQuestion, HonestReply, HonestResult } from './honest.ts'
import type { Length } from './length.ts'
import { LinesAccount } from './lines-account.ts'
import type { ProbeQuestion, ProbeReply } from './probe.ts'

export interface StageOptions {
  readonly place: Environment
  readonly settings?: Readonly<Record<string, string>>
  readonly maxOpenFiles?: number | undefined
  /** Maximum heap; undefined: Node's default. */
  readonly heapMib?: number | undefined
  readonly length: Pick<Length, 'heartbeatsPerS' | 'warmS'>
}

/** Measured since the last look. */
export interface Look {
  readonly p99Ms: number
  readonly probes: ProbeReply
  /** Peak. */
  readonly rssBytes: number
}

export interface StageEnd {
  readonly ended: Ended
  readonly honest: HonestResult
  /** stderr, without the line that says where it listens. */
  readonly notes: string
}

const RSS_MS = 100
/** A service that hangs ignores SIGTERM. */
const END_MS = 60_000

export class Stage {
  readonly origin: string
  readonly port: number
  readonly send: Send
  readonly lines: LinesAccount
  readonly #service: Replica
  readonly #honest: Child<HonestQuestion, HonestReply>
  readonly #probe: Child<ProbeQuestion, ProbeReply>
  readonly #attackers: Child<Assault, AssaultReport>[] = []
  readonly #sampler: NodeJS.Timeout
  #rssBytes = 0

  private constructor(
    origin: string,
    service: Replica,
    lines: LinesAccount,
    children: readonly [Child<HonestQuestion, HonestReply>, Child<ProbeQuestion, ProbeReply>],
  ) {
    this.origin = origin
    this.port = Number(new URL(origin).port)
    this.send = createSend(origin)
    this.lines = lines
    this.#service = service
    this.#honest = children[0]
    this.#probe = children[1]
    this.#sampler = setInterval(() => {
      this.#rssBytes = Math.max(this.#rssBytes, residentBytes(service.pid))
    }, RSS_MS)
  }

  /** Resolves once the service is warm, and honest clients and prober are at work. */
  static async open(options: StageOptions): Promise<Stage> {
    const { place, maxOpenFiles, heapMib } = options
    const lines = new LinesAccount()
    const service = startReplica({
      settings: {
        ...serviceSettings(place.databaseUrl, place.dataDir),
        HEARTBEAT_DEDUP_WINDOW_S: '0',
        ...options.settings,
      },
      onLine: lines.take,
      ...(maxOpenFiles !== undefined && { command: withMaxOpenFiles(maxOpenFiles) }),
      ...(heapMib !== undefined && {
        nodeArgs: [...START_ARGS, `--max-old-space-size=${heapMib}`],
      }),
    })
    const origin = await service.ready
    const honest = startChild<HonestQuestion, HonestReply>('./honest.js')
    const probe = startChild<ProbeQuestion, ProbeReply>('./probe.js')
    const stage = new Stage(origin, service, lines, [honest, probe])
    try {
      await probe.ask({ do: 'start', port: stage.port })
      await honest.ask({
        do: 'start',
        origin,
        tokens: place.phones.map(({ token }) => token),
        adminToken: ADMIN_TOKEN,
        ...options.length,
      })
      return stage
    } catch (error) {
      await stage.destroy()
      throw error
    }
  }

  /** Runs it in a process of its own; returns its counts. */
  async attack(assault: Assault): Promise<AssaultReport> {
    const attacker = startChild<Assault, AssaultReport>('./attackers/main.js')
    this.#attackers.push(attacker)
    try {
      return await attacker.ask(assault)
    } finally {
      await attacker.end()
    }
  }

  async look(): Promise<Look> {
    const probes = await this.#probe.ask({ do: 'read' })
    const { p99Ms } = await this.#honest.ask({ do: 'window' })
    const rssBytes = this.#rssBytes
    this.#rssBytes = 0
    return { p99Ms, probes, rssBytes }
  }

  /** Ends the honest clients, then the service, with SIGKILL after a minute. */
  async end(): Promise<StageEnd> {
    const { result } = await this.#honest.ask({ do: 'stop' })
    if (result === undefined) throw new Error('the honest clients reported nothing')
    await this.#probe.end()
    this.#service.signal('SIGTERM')
    const timer = setTimeout(() => this.#service.signal('SIGKILL'), END_MS)
    const ended = await this.#service.ended
    clearTimeout(timer)
    return { ended, honest: result, notes: this.#service.notes() }
  }

  /** Ends everything. Repeatable. */
  async destroy(): Promise<void> {
    clearInterval(this.#sampler)
    await Promise.all([this.#honest, this.#probe, ...this.#attackers].map((child) => child.end()))
    this.#service.signal('SIGKILL')
    await this.#service.ended
  }
}
