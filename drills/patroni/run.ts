/** One run: cluster, two replicas and load; fault after fault, with responses, log lines and losses. */
import { setTimeout as wait } from 'node:timers/promises'
import { withClient } from '../../testkit/database/postgres.ts'
import { seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { ADMIN_TOKEN, HMAC_SECRET } from '../../testkit/service-settings.ts'
import type { Figure } from '../drill.ts'
import { nothingMissing } from '../shared/acknowledged.ts'
import { type MixedLoad, startMixedLoad } from '../shared/mixed-load.ts'
import { ResponseWatch } from '../shared/response-watch.ts'
import { createCluster, createDatabase } from './cluster.ts'
import type { Fault, Scene } from './faults.ts'
import { faultFigures, type Suffered, sufferedText } from './figures.ts'
import { loopbackNetwork, type Network, namespacedNetwork } from './network.ts'
import { APP_HOSTS, openDirectory, startService } from './service.ts'
import { gapsOf, makeProbeTable, startWriteProbes, type WriteProbes } from './write-probes.ts'

export interface PatroniRun {
  readonly dir: string
  readonly faults: readonly Fault[]
  readonly repeats: number
  readonly ratePerS: number
  readonly isMultiHost: boolean
  /** This process has its own network namespace, and is root. */
  readonly isNamespaced: boolean
  readonly print: (line: string) => void
}

interface Watched {
  readonly scene: Scene
  readonly answers: ResponseWatch
  readonly probes: WriteProbes
  readonly load: MixedLoad
  /** When writes of the load were acknowledged, by performance.now(). */
  readonly acknowledgedAtMs: readonly number[]
  /** Requests without a whole response. */
  readonly failures: string[]
}

const HOSTS = [11, 12, 13]
const PHONES = 200
const CALM_MS = 2_000
const SETTLED_MS = 30_000
const POLL_MS = 100
const PASSWORD = 'drill-database-password'

export async function runPatroni(run: PatroniRun): Promise<readonly Figure[]> {
  openDirectory(run.dir)
  const network = run.isNamespaced
    ? await namespacedNetwork(APP_HOSTS, HOSTS)
    : loopbackNetwork(Math.random)
  try {
    return await runOn(run, network)
  } finally {
    network.close()
  }
}

async function runOn(run: PatroniRun, network: Network): Promise<readonly Figure[]> {
  const { dir, print } = run
  const cluster = createCluster(dir, network)
  try {
    print('etcd, Patroni and PostgreSQL on three machines')
    for (const machine of cluster.machines) machine.startEtcd()
    for (const machine of cluster.machines) machine.startPatroni()
    await cluster.whole()
    const leader = await cluster.leader()
    const urlOf = (machine = leader, database = 'postgres') => cluster.url(machine, database)
    await createDatabase(urlOf(), 'fleetloop', PASSWORD)
    await makeProbeTable(urlOf())
    const credential = `fleetloop:${PASSWORD}@`
    const { machines } = cluster
    const service = await startService({ ...run, network, credential, machines })
    await withClient(urlOf(leader, 'fleetloop'), (db) => seedFleet(db, HMAC_SECRET, PHONES))
    const probes = startWriteProbes(machines.map((machine) => urlOf(machine)))
    const watched = watch({ cluster, network, service }, probes, run.ratePerS)
    const suffered: Suffered[] = []
    for (const fault of run.faults) {
      const lack = fault.missing?.(watched.scene)
      if (lack !== undefined) print(`${fault.name}: skipped, ${lack}`)
      for (let round = 0; lack === undefined && round < run.repeats; round += 1) {
        const one = await suffer(watched, fault, round)
        suffered.push(one)
        print(sufferedText(one))
      }
    }
    const report = await watched.load.stop()
    await probes.stop()
    watched.answers.end()
    const faults = service.faults()
    const exits = await service.stop()
    const now = await cluster.leader()
    return [
      ...faultFigures(suffered),
      await withClient(urlOf(now, 'fleetloop'), (db) =>
        nothingMissing(db, watched.load.acknowledged),
      ),
      {
        promise: 'every request is answered',
        measured: `${report.sent} sent, ${report.failed} without an answer, ${report.shed} never sent`,
        isHeld: report.failed === 0 && report.shed === 0 && report.sent > 0,
      },
      {
        promise: 'no replica ends but by our hand, no answer 500',
        measured: `${faults.length} faults ${faults[0] ?? ''}; exit codes ${exits.join(', ')}`,
        isHeld: faults.length === 0 && exits.every((code) => code === 0),
      },
    ]
  } finally {
    await cluster.destroy()
  }
}

function watch(scene: Scene, probes: WriteProbes, ratePerS: number): Watched {
  const responses = new ResponseWatch()
  const acknowledgedAtMs: number[] = []
  const failures: string[] = []
  let known = 0
  const load = startMixedLoad({
    origin: scene.service.origin,
    adminToken: ADMIN_TOKEN,
    tokens: Array.from({ length: PHONES }, (_, n) => seededToken(HMAC_SECRET, n + 1)),
    ratePerS,
    onFailure: ({ method, path }) => void failures.push(`${method} ${path}`),
    onAnswer(response) {
      responses.take(response)
      const { heartbeats, commands, results } = load.acknowledged
      const count = heartbeats.size + commands.size + results.size
      if (count > known) acknowledgedAtMs.push(performance.now())
      known = count
    },
  })
  return { scene, answers: responses, probes, load, acknowledgedAtMs, failures }
}

async function suffer(watched: Watched, fault: Fault, round: number): Promise<Suffered> {
  const { scene, answers: responses, probes, load, acknowledgedAtMs, failures } = watched
  const { cluster, service } = scene
  await cluster.whole()
  await wait(CALM_MS)
  responses.end()
  const before = service.seats.map(({ databaseEvents }) => databaseEvents.length)
  const eventsOf = () =>
    service.seats.map(({ databaseEvents }, index) => databaseEvents.slice(before[index]))
  const startedAtMs = performance.now()
  await fault.run(scene, round)
  await cluster.whole()
  // A service that does not recover is a figure, too.
  const isSettled = () =>
    performance.now() - (acknowledgedAtMs.at(-1) ?? 0) < CALM_MS &&
    eventsOf().every((events) => events.length % 2 === 0)
  const settledByMs = performance.now() + SETTLED_MS
  let calmSinceMs = performance.now()
  while (performance.now() < settledByMs && performance.now() - calmSinceMs < CALM_MS) {
    await wait(POLL_MS)
    if (!isSettled()) calmSinceMs = performance.now()
  }
  const endedAtMs = performance.now()
  const leader = await cluster.leader()
  const missing = await withClient(cluster.url(leader, 'fleetloop'), (db) =>
    nothingMissing(db, load.acknowledged),
  )
  return {
    fault,
    round,
    answers: responses.end(),
    unwritable: gapsOf(
      probes.committedAtMs(cluster.machines.indexOf(leader)),
      startedAtMs,
      endedAtMs,
    ),
    unacknowledged: gapsOf(acknowledgedAtMs, startedAtMs, endedAtMs),
    databaseEvents: eventsOf(),
    unanswered: failures.splice(0),
    missing,
  }
}
