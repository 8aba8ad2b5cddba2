/** Kinds of events in the feed, as sql/0027 writes them, and the position of a reader. */

export const EVENT_TYPES = [
  /** The first row of every installation: a position before everything else. */
  'feed.started',
  'device.enrolled',
  'device.re_enrolled',
  'device.deleted',
  /** Silent for DEVICE_OFFLINE_S, noticed by a sweep. */
  'device.offline',
  /** Its first heartbeat after that. */
  'device.online',
  'command.ended',
  'job.created',
  /** Its state changed. A job that begins, and one that is resumed, is `job.running`. */
  'job.scheduled',
  'job.running',
  'job.paused',
  'job.done',
  'job.aborted',
  'build.published',
  'build.staged',
  'build.released',
  'build.withdrawn',
  'token.created',
  'token.consumed',
  'token.revoked',
] as const

export type EventType = (typeof EVENT_TYPES)[number]

/**
 * An event that a reader has passed. Its time belongs to it: after a restore from a backup the same number may be another
 * event, and its reader has to notice that.
 */
export interface EventPosition {
  readonly id: number
  /** RFC 3339 with microseconds. */
  readonly at: string
}

export interface FleetEvent extends EventPosition {
  readonly type: EventType
  /** Id of the device, command, job, build or enrollment token. */
  readonly subject: string
  /** null: it is about no device, or about a command of one that was deleted since. */
  readonly deviceId: string | null
  readonly alias: string | null
  readonly detail: Readonly<Record<string, unknown>> | null
}
