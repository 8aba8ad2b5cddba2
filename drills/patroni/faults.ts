/** Faults under load: each begins, lasts, ends, and leaves a cluster that recovers without help. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Cluster } from './cluster.ts'
import type { Machine } from './machine.ts'
import type { Network } from './network.ts'
import type { Service } from './service.ts'

export interface Scene {
  readonly cluster: Cluster
  readonly network: Network
  readonly service: Service
}

export interface Fault {
  readonly name: string
  readonly what: string
  /** Resolves when it is over. `round` from 0. */
  run(scene: Scene, round: number): Promise<void>
  /** What this machine lacks for it. */
  missing?(scene: Scene): string | undefined
}

/** Longer than `ttl` of patroni.yml and the election that follows. */
const PAST_TTL_MS = 28_000
const STANDBY_MS = 20_000

export const FAULTS: readonly Fault[] = [
  {
    name: 'switchover',
    what: 'in order, as by patronictl',
    run: ({ cluster }) => cluster.switchover(),
  },
  {
    name: 'kill',
    what: 'kill -9 of the primary and its Patroni',
    async run({ cluster }) {
      const machine = await cluster.leader()
      await machine.kill('database')
      await another(cluster, machine)
      machine.startPatroni()
    },
  },
  {
    name: 'freeze',
    what: 'all of the primary machine stands still, then goes on',
    run: ({ cluster }) => frozen(cluster, 'all'),
  },
  {
    name: 'patroni-frozen',
    what: "the primary's Patroni stands still, its PostgreSQL serves on",
    run: ({ cluster }) => frozen(cluster, 'patroni'),
  },
  {
    name: 'partition',
    what: 'the primary is cut off from etcd and standbys, not from clients',
    missing: ({ network }) =>
      network.cut === undefined ? 'network namespaces need root' : undefined,
    async run({ cluster, network }) {
      const machine = await cluster.leader()
      const others = cluster.machines.filter((each) => each !== machine)
      network.cut?.(
        machine.host,
        others.map(({ host }) => host),
      )
      try {
        await wait(PAST_TTL_MS)
      } finally {
        network.heal()
      }
    },
  },
  {
    name: 'etcd',
    what: 'every etcd stands still, or is killed',
    async run({ cluster: { machines } }, round) {
      const isKilled = round % 2 === 1
      for (const machine of machines) {
        if (isKilled) await machine.kill('etcd')
        else machine.freeze('etcd')
      }
      await wait(PAST_TTL_MS)
      for (const machine of machines) {
        if (isKilled) machine.startEtcd()
        else machine.thaw()
      }
    },
  },
  {
    name: 'standby',
    what: 'the synchronous standby stands still, or is killed',
    async run({ cluster }, round) {
      const machine = await cluster.synchronousStandby()
      const isKilled = round % 2 === 1
      if (isKilled) await machine.kill('database')
      else machine.freeze('all')
      await wait(STANDBY_MS)
      if (isKilled) machine.startPatroni()
      else machine.thaw()
    },
  },
  {
    name: 'rolling',
    what: 'both replicas are restarted, one after the other, during a switchover',
    async run({ cluster, service }) {
      const [first, second] = service.seats
      if (first === undefined || second === undefined) throw new Error('no replicas')
      const restarting = service.restart(first)
      await cluster.switchover()
      await restarting
      await service.restart(second)
    },
  },
]

async function frozen(cluster: Cluster, what: 'patroni' | 'all'): Promise<void> {
  const machine = await cluster.leader()
  machine.freeze(what)
  try {
    await another(cluster, machine)
    await wait(5_000) // the old leader comes back to a cluster that has moved on
  } finally {
    machine.thaw()
  }
}

/** Resolves once another machine leads. */
async function another(cluster: Cluster, former: Machine): Promise<void> {
  while ((await cluster.leader()) === former) await wait(200)
}
