/** Three machines under Patroni, from nothing to a leader with a synchronous standby; their roles; a switchover. */
import { setTimeout as wait } from 'node:timers/promises'
import { withClient } from '../../testkit/database/postgres.ts'
import { createMachine, type Machine } from './machine.ts'
import type { Network } from './network.ts'
import { pageFile } from './page.ts'
import { binDirectory } from './programs.ts'

export interface Cluster {
  readonly machines: readonly Machine[]
  leader(): Promise<Machine>
  synchronousStandby(): Promise<Machine>
  /** Resolves when two standbys follow, one of them synchronous. Rejects after two minutes. */
  whole(): Promise<void>
  /** As `patronictl switchover` does: the synchronous standby takes over. */
  switchover(): Promise<void>
  /** A superuser's, on that machine. */
  url(machine: Machine, database: string): string
  /** Ends every process. */
  destroy(): Promise<void>
}

interface Member {
  readonly name: string
  readonly role: string
  readonly state: string
  readonly timeline?: number
  readonly lag?: number | string
}

const MACHINES = 3
const WHOLE_MS = 120_000
const POLL_MS = 200
const ASKED_MS = 2_000
const RUNS = /^(running|streaming)$/
const MOST_LAG = 1_000_000

export function createCluster(dir: string, network: Network): Cluster {
  const bin = binDirectory()
  if (bin === undefined) throw new Error('no PostgreSQL')
  const ownAccess = `host all postgres ${network.cidr} scram-sha-256`
  const machines = Array.from({ length: MACHINES }, (_, index) =>
    createMachine({ index: index + 1, dir, network, binDirectory: bin, ownAccess }),
  )
  const password = /username: postgres, password: (\w+)/.exec(pageFile('patroni.yml'))?.[1] ?? ''

  const ask = async (machine: Machine, path: string, init: RequestInit = {}) => {
    const signal = AbortSignal.timeout(ASKED_MS)
    return fetch(`http://${machine.address}:8008${path}`, { signal, ...init })
  }
  const isNow = (machine: Machine, path: string): Promise<boolean> =>
    ask(machine, path).then(
      async (response) => {
        await response.arrayBuffer()
        return response.status === 200
      },
      () => false,
    )
  const findNow = async (path: string): Promise<Machine | undefined> => {
    const are = await Promise.all(machines.map((machine) => isNow(machine, path)))
    return machines.find((_, index) => are[index])
  }
  const find = async (path: string): Promise<Machine> => {
    for (const endsAtMs = performance.now() + WHOLE_MS; performance.now() < endsAtMs; ) {
      const found = await findNow(path)
      if (found !== undefined) return found
      await wait(POLL_MS)
    }
    throw new Error(`no machine has been ${path}:\n${notes()}`)
  }
  const notes = () => machines.map((machine) => `${machine.name}\n${machine.notes()}`).join('\n\n')
  const isWhole = async (): Promise<boolean> => {
    const leader = await findNow('/primary')
    if (leader === undefined) return false
    const response = await ask(leader, '/cluster')
    const { members } = (await response.json()) as { readonly members: readonly Member[] } // Patroni's own form
    const timelines = new Set(members.map(({ timeline }) => timeline))
    return (
      members.length === MACHINES &&
      members.every(({ state, lag = 0 }) => RUNS.test(state) && Number(lag) < MOST_LAG) &&
      members.filter(({ role }) => role === 'sync_standby').length === 1 &&
      timelines.size === 1
    )
  }

  return {
    machines,
    leader: () => find('/primary'),
    synchronousStandby: () => find('/sync'),
    async whole() {
      const endsAtMs = performance.now() + WHOLE_MS
      while (!(await isWhole().catch(() => false))) {
        if (performance.now() > endsAtMs) throw new Error(`it has not become whole:\n${notes()}`)
        await wait(POLL_MS)
      }
    },
    async switchover() {
      const [from, to] = [await find('/primary'), await find('/sync')]
      const body = JSON.stringify({ leader: from.name, candidate: to.name })
      const signal = AbortSignal.timeout(WHOLE_MS) // responds when it is done
      const response = await ask(from, '/switchover', { method: 'POST', body, signal })
      const said = await response.text()
      if (!response.ok) throw new Error(`no switchover: ${said}`)
    },
    url: (machine, database) =>
      `postgres://postgres:${password}@${machine.address}:5432/${database}?sslmode=disable`,
    async destroy() {
      for (const machine of machines) {
        await machine.kill('database')
        await machine.kill('etcd')
      }
    },
  }
}

/** Creates the service's role and database, once there is a leader. */
export async function createDatabase(url: string, role: string, password: string): Promise<void> {
  await withClient(url, async (db) => {
    await db.query(`create role ${role} login password '${password}'`)
    await db.query(
      `create database ${role} owner ${role} encoding 'UTF8' locale 'C' template template0`,
    )
  })
}
