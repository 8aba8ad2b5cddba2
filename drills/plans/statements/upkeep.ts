/** The service's own work: sweeps, gauges, pruning, daily partitions. */
import { commandOutbox } from '../../../src/db/commands/outbox.ts'
import { partitions } from '../../../src/db/heartbeats/partitions.ts'
import { prunes } from '../../../src/db/retention.ts'
import { PRUNED_DAYS } from '../installation.ts'
import { BOTH, type Statement } from './statement.ts'

/** As in maintenance.ts. */
const BATCH = 500
/** More than any row's age. */
const NEVER_DAYS = 10_000
/** Pruning a row touches each of its indexes; a command takes three events along, each found separately. */
const MOST_PAGES_OF_PRUNED = 40

export function upkeepStatements(): readonly Statement[] {
  return [
    {
      title: 'expiry sweep',
      modes: BOTH,
      run: (database) => commandOutbox(database, 'drill').expire(BATCH),
      index: 'commands_sweep',
      mostRows: 4 * BATCH,
      mostPages: 60 * BATCH, // each is inserted into all indexes
    },
    {
      title: 'gauge of waiting commands',
      modes: BOTH,
      run: (database) => commandOutbox(database, 'drill').countWaiting(),
      index: 'commands_due',
      mostRows: 20_000, // with hardly more than it counts, it may read and sort all
      mostPages: 10_000,
    },
    {
      title: 'days of heartbeats',
      modes: BOTH,
      run: (database) => partitions(database, { retentionDays: NEVER_DAYS }).maintain(),
      mostRows: 0,
      mostPages: 500, // catalog pages
    },
    ...pruneStatements('of what is old', PRUNED_DAYS),
    ...pruneStatements('where nothing is old', NEVER_DAYS),
  ]
}

const BATCHES = 'batches of enrollment tokens'
const PRUNED = [
  ...['used signatures', 'commands', 'members of jobs', 'jobs', 'audit log', 'downloads'],
  ...['device tokens', 'enrollment tokens', 'events', BATCHES, 'deleted devices'],
]

function pruneStatements(what: string, days: number): readonly Statement[] {
  return PRUNED.map((table, index) => {
    // Batches have their own retention.
    const isOld = days === PRUNED_DAYS || table === BATCHES
    return {
      title: `prune ${what}: ${table}`,
      modes: BOTH,
      async run(database) {
        const all = prunes(database, {
          commandRetentionDays: days,
          auditRetentionDays: days,
          downloadRetentionDays: days,
          tokenRetentionDays: days,
          deviceRetentionDays: days,
          eventsRetentionDays: days,
          signatureS: days * 86_400,
        })
        const prune = all[index]
        if (prune === undefined || all.length !== PRUNED.length) throw new Error('another prune')
        await prune(BATCH, null)
      },
      // Events are read by their number, from the oldest on.
      // It passes over old jobs that still have members.
      mostRows: isOld ? (table === 'jobs' ? 8 : 6) * BATCH : table === 'events' ? BATCH + 10 : 10,
      mostPages: isOld ? MOST_PAGES_OF_PRUNED * BATCH : 100,
    }
  })
}
