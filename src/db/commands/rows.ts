/** A command row for admins: its columns and joins. */
import type { CommandFacts, DeviceFacts } from '../../domain/commands/command.ts'
import type { Priority } from '../../domain/delivery/push-report.ts'
import { HAS_PUSH_ID, IS_FID_MISNAMED } from '../devices/push-id.ts'
import { timeText } from '../list-page.ts'

/** Times as admins read them, with microseconds as in every list; a Date has milliseconds. */
export interface CommandTimes {
  /** Sort key of lists, too. */
  readonly createdAtText: string
  readonly expiresAtText: string
  readonly endedAtText: string | null
  readonly deliveredAtText: string | null
  readonly resultFinishedAtText: string | null
  readonly resultAtText: string | null
  /** By the phone's clock. */
  readonly pushReceivedAtText: string | null
}

/** A command with the facts of its device that a verdict needs. Dates are instants; `now` is the database's. */
export interface CommandRow extends CommandTimes, CommandFacts, DeviceFacts {
  readonly requestId: string
  readonly deviceId: string
  readonly alias: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  readonly admin: string
  readonly createdAt: Date
  readonly endedAt: Date | null
  readonly attempt: number
  readonly pushAttempts: number
  readonly deliveries: number
  readonly resultMessage: string | null
  readonly resultOutput: string | null
  readonly resultExitCode: number | null
  readonly resultFinishedAt: Date | null
  readonly resultAt: Date | null
  readonly pushPriority: Priority | null
  readonly pushOriginalPriority: Priority | null
  readonly now: Date
}

/** Every column of a CommandRow, from JOINED. */
export const COLUMNS = /* sql */ `
  c.request_id as "requestId", c.device_id as "deviceId", d.alias as "alias", c.action as "action",
  c.params as "params", c.admin as "admin", c.state as "state", c.created_at as "createdAt",
  ${timeText('c.created_at')} as "createdAtText", ${timeText('c.expires_at')} as "expiresAtText",
  ${timeText('c.ended_at')} as "endedAtText", ${timeText('c.delivered_at')} as "deliveredAtText",
  ${timeText('c.result_finished_at')} as "resultFinishedAtText", ${timeText('c.result_at')} as "resultAtText",
  c.expires_at as "expiresAt", c.ended_at as "endedAt",
  c.attempt as "attempt", c.push_state as "pushState", c.push_attempts as "pushAttempts",
  c.fcm_http_code as "fcmHttpCode", c.fcm_status as "fcmStatus", c.next_attempt_at as "nextAttemptAt",
  c.delivered_at as "deliveredAt", c.deliveries as "deliveries", c.outcome as "outcome",
  c.result_message as "resultMessage", c.result_output as "resultOutput",
  c.result_exit_code as "resultExitCode", c.result_finished_at as "resultFinishedAt",
  ${timeText('c.push_received_at')} as "pushReceivedAtText", c.push_priority as "pushPriority",
  c.push_original_priority as "pushOriginalPriority", s.push_lowered_at as "pushLoweredAt",
  c.result_at as "resultAt", c.late_result as "isLateResult", d.deleted_at is not null as "isDeleted",
  s.last_seen_at as "lastSeenAt", ${HAS_PUSH_ID} as "hasPushToken",
  d.fcm_token_died_at is not null as "isPushTokenDead", ${IS_FID_MISNAMED} as "isFidMisnamed", now() as "now"`

export const JOINED = /* sql */ `
  commands c join devices d using (device_id) join device_status s using (device_id)`
