/** `npm run drill -- R2`, `R3`, `R4`: PostgreSQL killed, stopped and frozen under load. */
import { runDatabaseKills } from './database-kills-run.ts'
import { defineDrill } from './drill.ts'
import { runOutage } from './outage-run.ts'
import { seededRandom } from './seeded-random.ts'

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
    runDatabaseKills({ kills, ratePerS: rate, random: seededRandom(seed) }, place),
})

export const databaseStoppedDrill = defineDrill({
  name: 'R3',
  promise:
    'PostgreSQL stopped: every answer within 2 s and 503 with Retry-After, zero 401, back within 2 s',
  options: { seconds: SECONDS, rate: RATE },
  run: ({ seconds, rate }, place) =>
    runOutage({ kind: 'stopped', seconds, ratePerS: rate, probes: PROBES }, place),
})

export const databaseFrozenDrill = defineDrill({
  name: 'R4',
  promise:
    'PostgreSQL frozen: every answer within 2 s, memory + at most 32 MiB, back within 2 s, no poisoned connection',
  options: { seconds: SECONDS, rate: RATE },
  run: ({ seconds, rate }, place) =>
    runOutage({ kind: 'frozen', seconds, ratePerS: rate, probes: PROBES }, place),
})
