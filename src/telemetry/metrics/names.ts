/**
 * Every metric of the service; docs/reference/metrics.md comes from here. Names, types and help are a contract, and the
 * order of the rows is the order of the exposition: METRICS, then GAUGES. A row's comment says what the metric tells, with its
 * labels; `@act` says what an operator does about it. Links in it start from docs/reference/.
 */
import type { LevelCounts } from '../log/levels.ts'

/** Counted as things happen: name, help. */
export const METRICS = {
  /** Requests that ended; a client that left counts as `4xx`. @labels `route`, `method`, `status_code` */
  requests: ['http_requests_total', 'HTTP requests that have ended.'],
  /** From the parsed head to the end of the response. @labels `route` */
  latency: [
    'http_request_latency_ms',
    'Milliseconds from the parsed request head to the end of the response.',
  ],
  /** One observation for each HTTP attempt at FCM, failed ones too, without fetching the access token. @labels `action` */
  dispatch: [
    'fcm_dispatch_latency_ms',
    'Milliseconds of one HTTP attempt at FCM, failed ones included, token fetch excluded.',
  ],
  /**
   * Downloads that reached the file's last byte: the completed rows of `apk_download_events`; `source` as in `apk.download`.
   * @labels `build_type`, `source`
   */
  downloads: ['apk_download_total', 'APK downloads that ended normally.'],
  /** Heartbeats stored. */
  heartbeatsIngested: ['heartbeats_ingested_total', 'Heartbeats stored.'],
  /** Heartbeats within the window of one already stored. */
  heartbeatsDedupHits: [
    'heartbeats_dedup_hits_total',
    'Heartbeats inside the window of one already stored.',
  ],
  /**
   * From FCM's acceptance of a command to the time at which its phone received the message, as the phone reports with the result;
   * its clock is corrected by the offset that its heartbeats show.
   * @act Growing while `fcm_dispatch_latency_ms` does not: phones sleep, or FCM lowers their priority:
   * [Pushes that arrive late](../operate/push.md#pushes-that-arrive-late).
   */
  pushDelay: [
    'fleetloop_push_delay_ms',
    'Milliseconds from the acceptance of a command by FCM to its receipt by the phone.',
  ],
  /** Reported receipts that `fleetloop_push_delay_ms` leaves out: the offset of the phone's clock is not known within 5 s. */
  pushDelayUnknown: [
    'fleetloop_push_delay_unknown_total',
    'Reported receipts of pushes whose delay is not known within 5 s.',
  ],
  /**
   * High-priority messages that FCM delivered at normal priority, as phones report.
   * @act Rising: [Pushes that arrive late](../operate/push.md#pushes-that-arrive-late).
   */
  pushDeprioritized: [
    'fleetloop_push_deprioritized_total',
    'Messages that FCM delivered at a lower priority than they were sent with.',
  ],
} as const

/** Read at each scrape: name, type, help. */
export const GAUGES = {
  /** Clients' connections; idle ones are kept for 80 s. @act Near the bound: raise `LimitNOFILE=`, or add a replica. */
  connectionsOpen: ['fleetloop_connections_open', 'gauge', 'Open connections of clients.'],
  /**
   * Connections closed because all others were busy, or because too many requests were open on one ([bounds](bounds.md));
   * clients see a reset.
   * @act Above 0: raise `LimitNOFILE=`, or add a replica.
   */
  connectionsRefused: [
    'fleetloop_connections_refused_total',
    'counter',
    'Connections closed since too many were at work, or too many requests were open on one.',
  ],
  /** Idle connections closed to admit another one. @act Above 0: someone holds connections open, or raise `LimitNOFILE=`. */
  connectionsEvicted: [
    'fleetloop_connections_evicted_total',
    'counter',
    'Idle connections closed to let another one in.',
  ],
  /** Must stay 0. @act Stdout's reader is too slow or gone: [Lines are missing](../../RUNBOOK.md#lines-are-missing) @labels `level` */
  logLinesDropped: [
    'fleetloop_log_lines_dropped_total',
    'counter',
    'Log lines that never reached stdout.',
  ],
  /** Unwritten log bytes; near `LOG_BUFFER_BYTES`, lines are being dropped. */
  logRingBytes: ['fleetloop_log_ring_bytes', 'gauge', 'Bytes of log lines not yet written.'],
  /** 1,024 is full. @act Above 256 for long: the database is the bottleneck. */
  heartbeatQueueDepth: [
    'fleetloop_heartbeat_queue_depth',
    'gauge',
    'Heartbeats waiting to be stored.',
  ],
  /**
   * Connections that are busy, being made, or given up and not closed by the server yet.
   * @act At `DATABASE_POOL_MAX` for long: as `fleetloop_db_pool_waiting`.
   */
  dbPoolInUse: ['fleetloop_db_pool_in_use', 'gauge', 'Database connections at work.'],
  /**
   * Requests that wait for a connection. Push and other background work cannot cause it: they have a share of their own,
   * `fleetloop_background_waiting`.
   * @act Above 0 for long: raise `DATABASE_POOL_MAX`, or add a replica.
   */
  dbPoolWaiting: ['fleetloop_db_pool_waiting', 'gauge', 'Callers waiting for a connection.'],
  /**
   * Connections that the server has not closed yet.
   * @act Above 0 for long: statements hang there, look for them in `pg_stat_activity`
   * ([Database trouble](../../RUNBOOK.md#database-trouble)).
   */
  dbConnectionsGivenUp: [
    'fleetloop_db_connections_given_up',
    'gauge',
    'Database connections given up that the server has not closed yet.',
  ],
  /** Attempts to connect to the database; at rest 20 a minute, which check the server. */
  dbConnectAttempts: [
    'fleetloop_db_connect_attempts_total',
    'counter',
    'Attempts to connect to the database.',
  ],
  /** Attempts that failed; grows while the database is away. */
  dbConnectFailures: [
    'fleetloop_db_connect_failures_total',
    'counter',
    'Attempts to connect to the database that failed.',
  ],
  /** Statements that were given up and that the server was asked to cancel; above 0: slow or hanging statements. */
  dbCancelRequests: [
    'fleetloop_db_cancel_requests_total',
    'counter',
    'Requests to cancel a statement that was given up.',
  ],
  /**
   * Synchronous standbys attached to the primary, checked every 3 s; 0 without `synchronous_standby_names`. `NaN`: unknown for
   * 30 s, or the role may not see it.
   * @act `NaN`: `grant pg_read_all_stats to fleetloop;`. Alert below 1 if you replicate synchronously.
   */
  dbSyncStandbys: [
    'fleetloop_db_sync_standbys',
    'gauge',
    'Synchronous standbys attached; NaN: not known.',
  ],
  /**
   * 503 `overloaded`: enrollment tokens without our tag, when 512 waited for their look-up or no connection was made for 5 s
   * ([bounds](bounds.md)).
   * @act Above 0: someone floods with made-up tokens; old tokens without a tag have to try again, and no other request suffers.
   */
  untaggedTokensRefused: [
    'fleetloop_untagged_tokens_refused_total',
    'counter',
    'Enrollment tokens without a tag of ours that nobody looked up, since too many waited.',
  ],
  /**
   * Registrations that wait for their turn, for up to 20 s: a whole fleet enrolls at once. At 1,024, or 256 with one enrollment
   * token, `/v1/register` gives 503 `overloaded` ([bounds](bounds.md)).
   */
  registrationsWaiting: [
    'fleetloop_registrations_waiting',
    'gauge',
    'Registrations waiting for their turn.',
  ],
  /**
   * Statements of push (claims and records), expiry and pruning that wait for their share of the connections
   * ([bounds](bounds.md)). Above 0 while `fleetloop_db_pool_waiting` is 0: push works off a backlog,
   * `fleetloop_commands_waiting` falls, and requests do not wait.
   * @act Nothing; a larger `DATABASE_POOL_MAX` makes it faster.
   */
  backgroundWaiting: [
    'fleetloop_background_waiting',
    'gauge',
    'Statements of background work that wait.',
  ],
  /**
   * Open commands due for push, now or later, counted every 5 s over all replicas; 10000 means that many or more.
   * @act It grows while push is paused: [States of the sender](../operate/push.md#states-of-the-sender)
   */
  commandsWaiting: [
    'fleetloop_commands_waiting',
    'gauge',
    'Commands waiting for dispatch; 10000 stands for more.',
  ],
  /** Jobs that are scheduled, running or paused, over all replicas; seen at most 1 s ago. */
  jobsOpen: ['fleetloop_jobs_open', 'gauge', 'Jobs that are scheduled, running or paused.'],
  /** Readers of `GET /admin/events` that wait, and streams; at most 128, 32 of one admin ([bounds](bounds.md)). */
  eventReaders: ['fleetloop_event_readers', 'gauge', 'Readers of events that wait, and streams.'],
  /** 503 `overloaded`: too many readers waited already. @act Above 0: let programs share a reader, or add a replica. */
  eventReadersRefused: [
    'fleetloop_event_readers_refused_total',
    'counter',
    'Readers of events refused since too many waited.',
  ],
  /** Streams cut off because their client did not read for 10 s; it can resume from its last event. */
  eventStreamsDropped: [
    'fleetloop_event_streams_dropped_total',
    'counter',
    'Streams of events cut off since their client did not read.',
  ],
  /**
   * For how long a transaction that has written an event, and has not ended, has held back all later events; 0 while nobody waits
   * for events.
   * @act Above 10: [The feed of events does not advance](../operate/events.md#the-feed-does-not-advance).
   */
  eventsBehindS: [
    'fleetloop_events_behind_seconds',
    'gauge',
    'How long unfinished transactions have held back events.',
  ],
  /**
   * Over the last 15 to 30 s, however often it is scraped.
   * @act Above 50: the CPU is the bottleneck ([Sizing](../operate/scale.md#sizing)).
   */
  eventLoopDelayMs: [
    'fleetloop_event_loop_delay_p99_ms',
    'gauge',
    'How late the event loop is, 99th percentile of the last 15 to 30 s.',
  ],
  /**
   * Resident memory: about 110 MiB, up to 130 under load, flat.
   * @act If it keeps growing, note the figures, restart, and report it.
   */
  residentBytes: ['process_resident_memory_bytes', 'gauge', 'Resident memory size in bytes.'],
  /** Always 1. @act Two versions for long: an upgrade that stopped half-way. @labels `version` */
  buildInfo: ['fleetloop_build_info', 'gauge', 'Always 1.'],
} as const

/** A source for each gauge; must not throw. NaN: not known. */
export type Gauges = {
  readonly [Name in keyof typeof GAUGES]: () => Name extends 'logLinesDropped'
    ? LevelCounts
    : number
}
