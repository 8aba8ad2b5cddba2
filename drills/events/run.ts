/**
 * `npm run drill -- events`: three writers make events through two replicas, three readers follow the feed in three manners,
 * and replicas and readers are killed all the time. At the end each reader has every event once, in the same order.
 */
import { createHash } from 'node:crypto'
import { withClient } from '../../testkit/database/postgres.ts'
import { bodyOf, textOf } from '../../testkit/http/client.ts'
import { seededRandom } from '../../testkit/random.ts'
import { ADMIN_TOKEN, serviceSettings } from '../../testkit/service-settings.ts'
import { until } from '../../testkit/until.ts'
import { spread } from '../commands/rig.ts'
import { type DatabaseEnvironment, defineDrill, type Figure } from '../drill.ts'
import { type ReplicaPair, startReplicaPair } from '../shared/replica-pair.ts'
import { readJournal } from './journal.ts'
import { type Reader, startReaders } from './readers.ts'
import { BATCH, write, writerTokens } from './writers.ts'

export interface EventsRun extends DatabaseEnvironment {
  readonly events: number
  /** Of replicas, and as many of readers. */
  readonly kills: number
  /** 0 inclusive to 1 exclusive. */
  readonly random: () => number
}

const WRITERS = 3
/** Created tokens, and one that is revoked. */
const EVENTS_OF_BATCH = BATCH + 1
const CATCH_UP_MS = 300_000

export const eventsDrill = defineDrill({
  name: 'events',
  promise:
    'events from 3 writers in 2 replicas, replicas and readers killed at random: none missing, none repeated past a saved cursor, in order',
  options: {
    events: { standard: 1_000_000, what: 'made by the writers' },
    kills: { standard: 40, what: 'SIGKILLs of replicas, and as many of readers' },
    seed: { standard: 1, what: 'of the kills' },
  },
  needs: 'postgres',
  run: ({ seed, ...options }, environment) =>
    runEvents({ ...options, ...environment, random: seededRandom(seed) }),
})

export async function runEvents(run: EventsRun): Promise<readonly Figure[]> {
  const settings = serviceSettings(run.databaseUrl, run.dataDir)
  const pair = await startReplicaPair(
    {
      ...settings,
      ADMIN_TOKENS: `${settings.ADMIN_TOKENS},${writerTokens(WRITERS)}`,
      RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
      EVENTS_KEEP_ALIVE_S: '1',
    },
    run.random,
  )
  const readers = startReaders(run.dir, ADMIN_TOKEN, pair.origins)
  try {
    const startedAtMs = performance.now()
    const killed = await writeUnderKills(run, pair, readers)
    const writtenMs = performance.now() - startedAtMs
    await caughtUp(pair, readers)
    const readMs = performance.now() - startedAtMs
    for (const reader of readers) await reader.end()
    const made = await readMade(run.databaseUrl)
    const rate = (ms: number) => Math.round((made.events * 1_000) / ms)
    run.print(
      `${made.events} events written in ${Math.round(writtenMs / 1_000)} s (${rate(writtenMs)} a second), read by all readers after ${Math.round(readMs / 1_000)} s`,
    )
    const codes = await pair.stop()
    const faults = pair.faults()
    return [
      ...readers.map((reader) => judge(reader, made, run.events)),
      sameOrder(readers),
      {
        promise: 'replicas end only by our hand, answer no 500, and end in order',
        measured: `${killed} × SIGKILL of replicas, and of readers; ${faults.length} faults ${faults[0] ?? ''}; exit codes ${codes.join(', ')}`,
        isHeld: faults.length === 0 && codes.every((code) => code === 0) && killed === run.kills,
      },
    ]
  } finally {
    for (const reader of readers) await reader.end()
    await pair.stop()
  }
}

/** Returns how many replicas were killed. */
async function writeUnderKills(
  run: EventsRun,
  pair: ReplicaPair,
  readers: readonly Reader[],
): Promise<number> {
  const batches = Math.ceil(run.events / EVENTS_OF_BATCH)
  const moments = () => spread(run.kills, { commands: batches, random: run.random })
  const [ofReplicas, ofReaders] = [moments(), moments()]
  let killing = Promise.resolve()
  let killed = 0
  const due = (at: number[], nth: number) =>
    at[0] !== undefined && at[0] <= nth && at.shift() !== undefined
  await write({
    writers: WRITERS,
    batches,
    send: pair.send,
    onBatch(nth) {
      while (due(ofReplicas, nth)) {
        killing = killing.then(() => pair.kill())
        killed += 1
      }
      while (due(ofReaders, nth)) {
        const reader = readers[Math.floor(run.random() * readers.length)]
        killing = killing.then(() => reader?.kill())
      }
    },
  })
  await killing
  return killed
}

/** Until each reader's cursor is that of the newest event. */
async function caughtUp(pair: ReplicaPair, readers: readonly Reader[]): Promise<void> {
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` }
  const path = '/admin/events?after=now'
  const newest = async () => {
    const response = await pair.send({ method: 'GET', path, headers }).catch(() => undefined)
    return response && textOf(bodyOf(response), 'cursor')
  }
  for (const { journal, manner } of readers) {
    const isThere = async () => readJournal(journal).cursor === (await newest())
    await until(isThere, `the end of the feed for the reader by ${manner}`, CATCH_UP_MS)
  }
}

interface Made {
  /** Of all tokens in the database; by `c` or `r` with the token's id: its writer and batch. */
  readonly batches: ReadonlyMap<string, readonly [writer: number, batch: number]>
  readonly events: number
  /** Rows in fleet_events. */
  readonly stored: number
}

async function readMade(databaseUrl: string): Promise<Made> {
  return withClient(databaseUrl, async (db) => {
    const batches = new Map<string, readonly [number, number]>()
    const { rows } = await db.query<{ id: string; note: string; revoked: boolean }>(
      `select token_id as id, note, revoked_at is not null as revoked from enrollment_tokens`,
    )
    for (const { id, note, revoked } of rows) {
      const [writer = 0, batch = 0] = note.split('-').map(Number)
      batches.set(`c${id}`, [writer, batch])
      if (revoked) batches.set(`r${id}`, [writer, batch])
    }
    const stored = await db.query<{ n: number }>(
      `select count(*)::int as n from fleet_events where type in ('token.created', 'token.revoked')`,
    )
    return { batches, events: batches.size, stored: stored.rows[0]?.n ?? 0 }
  })
}

function judge({ manner, journal }: Reader, made: Made, wanted: number): Figure {
  const { told } = readJournal(journal)
  const seen = new Set<string>()
  const latest = new Map<number, number>()
  let [repeated, strange, early] = [0, 0, 0]
  for (const one of told) {
    if (seen.has(one)) repeated += 1
    seen.add(one)
    const [writer, batch] = made.batches.get(one) ?? [-1, -1]
    if (writer === -1) strange += 1
    // A writer begins a batch when the one before is acknowledged.
    if (batch < (latest.get(writer) ?? 0)) early += 1
    latest.set(writer, batch)
    if (one.startsWith('r') && !seen.has(`c${one.slice(1)}`)) early += 1
  }
  const missing = [...made.batches.keys()].filter((one) => !seen.has(one)).length
  const isWhole = made.events >= wanted && made.stored === made.events
  return {
    promise: `the reader by ${manner} has each event once, in the order of the commits`,
    measured: `${told.length} of ${made.events} events (${made.stored} rows): ${missing} missing, ${repeated} repeated, ${strange} of no change, ${early} out of order`,
    isHeld: isWhole && missing + repeated + strange + early === 0,
  }
}

function sameOrder(readers: readonly Reader[]): Figure {
  const orders = readers.map(({ journal }) => {
    const hash = createHash('sha256')
    for (const one of readJournal(journal).told) hash.update(one)
    return hash.digest('hex').slice(0, 12)
  })
  return {
    promise: 'all readers have the same order',
    measured: orders.join(', '),
    isHeld: new Set(orders).size === 1,
  }
}
