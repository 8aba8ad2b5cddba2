/** The metrics of the service, with the sources of its gauges. */
import type { Connections } from '../../http/connection/connections.ts'
import type { Metrics } from '../../telemetry/metrics/metrics.ts'
import type { ServiceContext } from '../service-context.ts'
import type { DatabaseParts } from './database.ts'
import type { EventReaders } from './event-readers.ts'

export interface GaugeSources {
  /** Called at a scrape, never before the listener is there. */
  readonly connections: () => Connections
  readonly database: Pick<DatabaseParts, 'stores' | 'watch'>
  readonly heartbeats: { readonly queued: number }
  readonly maintenance: { readonly commandsWaiting: number }
  readonly jobsOpen: () => number
  readonly eventReaders: EventReaders
}

export function createServiceMetrics(
  { config, version, logger, createMetrics }: ServiceContext,
  { connections, database, heartbeats, maintenance, jobsOpen, eventReaders }: GaugeSources,
): Metrics {
  const { stores, watch } = database
  return createMetrics({
    actions: config.commandActions,
    statusMode: config.metricsStatus,
    version,
    gauges: {
      connectionsOpen: () => connections().open,
      connectionsRefused: () => connections().refused,
      connectionsEvicted: () => connections().evicted,
      logLinesDropped: () => logger.stats().linesDropped,
      logRingBytes: () => logger.stats().fillBytes,
      heartbeatQueueDepth: () => heartbeats.queued,
      ...stores.gauges,
      dbSyncStandbys: () => watch.syncStandbys,
      commandsWaiting: () => maintenance.commandsWaiting,
      jobsOpen,
      eventReaders: () => eventReaders.open,
      eventReadersRefused: () => eventReaders.refusedCount,
      eventStreamsDropped: () => eventReaders.droppedCount,
      eventsBehindS: () => (stores.settledEvents.isPolling ? stores.settledEvents.behindS : 0),
    },
  })
}
