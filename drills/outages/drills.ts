/** `npm run drill -- R2`, `R3`, `R4`, `database-trouble`: PostgreSQL killed, stopped, frozen, full and so on, under load. */

import { seededRandom } from '../../testkit/random.ts'
import { defineDrill } from '../drill.ts'
import { runDatabaseKills } from './database-kills-run.ts'
import { onOutageRig } from './rig.ts'
import { type OutageRun, runOutage } from './run.ts'
import { runTrouble } from './trouble-run.ts'

const RATE = {
  standard: 300,
  what: 'requests a second: heartbeats, commands, results, reads',
} as const
const SECONDS = { standard: 20, what: 'away' } as const
const PROBES = 1_000

export const databaseKillsDrill = defineDrill({
  name: 'R2',
  promise: 'kill -9 of PostgreSQL under load: 0 acknowledged writes missing, 0 service crashes',
  options: {
    kills: { standard: 20, what: 'SIGKILLs of every process of it' },
    rate: RATE,
    seed: { standard: 1, what: 'of the moments of the kills' },
  },
  run: ({ kills, rate, seed }, place) =>
    onOutageRig(place, rate, (rig) =>
      runDatabaseKills({ kills, probes: PROBES, random: seededRandom(seed) }, rig, place.print),
    ),
})

const outageDrill = (name: string, kind: OutageRun['kind'], promise: string) =>
  defineDrill({
    name,
    promise,
    options: { seconds: SECONDS, rate: RATE },
    run: ({ seconds, rate }, place) =>
      onOutageRig(place, rate, (rig) =>
        runOutage({ kind, seconds, calmS: 5, probes: PROBES }, rig, place.print),
      ),
  })

export const databaseStoppedDrill = outageDrill(
  'R3',
  'stopped',
  'PostgreSQL stopped: every answer within 2 s and 503 with Retry-After, zero 401, back within 2 s',
)

export const databaseFrozenDrill = outageDrill(
  'R4',
  'frozen',
  'PostgreSQL frozen: every answer within 2 s, memory + at most 32 MiB, back within 2 s, no poisoned connection',
)

/** A skipped trouble is not held. */
const NO_SMALL_DISK = {
  promise: 'full disk: 503, one episode, back by itself',
  measured: 'not tried: to mount a small file system needs root',
  isHeld: false,
}

export const troubleDrill = defineDrill({
  name: 'database-trouble',
  promise:
    'restart, freeze, failover, read-only, too many connections, full disk: 503 with Retry-After within 2 s, one episode each, back by itself',
  options: { seconds: { standard: 10, what: 'of each kind' }, rate: RATE },
  run: ({ seconds, rate }, place) =>
    onOutageRig(place, rate, async (rig) => {
      const common = { seconds, calmS: 2, probes: PROBES }
      const stopped = await runOutage({ ...common, kind: 'stopped' }, rig, place.print)
      const frozen = await runOutage({ ...common, kind: 'frozen' }, rig, place.print)
      const others = await runTrouble(common, rig, place.print)
      const disk = rig.disk === undefined ? [NO_SMALL_DISK] : []
      return [...stopped, ...frozen, ...others, ...disk]
    }),
})
