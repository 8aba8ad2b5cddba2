/** A command as JSON for admins. */

import type { CommandEventRow, CommandRow } from '../../db/commands/commands.ts'
import {
  type AskedAt,
  type SenderTrouble,
  statusAt,
  verdictAt,
} from '../../domain/commands/command.ts'

/** Shows a waiting command as paused while the sender is, though no push of its own has failed. */
export function pausedWith(command: CommandRow, trouble: SenderTrouble | undefined): CommandRow {
  const isWaiting = command.pushState === 'waiting' || command.pushState === 'backoff'
  const lacksResult = command.outcome === null && command.state !== 'cancelled'
  const isHeld =
    trouble?.kind === 'paused' && trouble.since < command.expiresAt && isWaiting && lacksResult
  return isHeld ? { ...command, pushState: 'paused' } : command
}

/** The response of POST /admin/command. */
export function acceptedJson(command: CommandRow, isDuplicate: boolean) {
  return {
    request_id: command.requestId,
    device_id: command.deviceId,
    alias: command.alias,
    action: command.action,
    status: statusAt(command, command.now),
    push: pushJson(command),
    expires_at: command.expiresAtText,
    duplicate: isDuplicate,
  }
}

export function commandJson(command: CommandRow) {
  return {
    request_id: command.requestId,
    device_id: command.deviceId,
    alias: command.alias,
    action: command.action,
    params: command.params,
    admin: command.admin,
    status: statusAt(command, command.now),
    push: pushJson(command),
    attempt: command.attempt,
    created_at: command.createdAtText,
    expires_at: command.expiresAtText,
    ended_at: command.endedAtText,
    delivered_at: command.deliveredAtText,
    deliveries: command.deliveries,
    result: resultJson(command),
  }
}

export function storyJson(
  command: CommandRow,
  timeline: readonly CommandEventRow[],
  asked: Omit<AskedAt, 'now'>,
) {
  return {
    ...commandJson(command),
    timeline: timeline.map((event) => ({
      at: event.at,
      stage: event.stage,
      code: event.code,
      instance: event.instance,
      detail: event.detail,
    })),
    verdict: verdictAt(command, command, { ...asked, now: command.now }),
  }
}

function pushJson(command: CommandRow) {
  return {
    state: command.pushState,
    attempts: command.pushAttempts,
    fcm_http_code: command.fcmHttpCode,
    fcm_status: command.fcmStatus,
    received_at: command.pushReceivedAtText,
    priority: command.pushPriority,
    original_priority: command.pushOriginalPriority,
  }
}

function resultJson(command: CommandRow) {
  if (command.outcome === null) return null
  return {
    outcome: command.outcome,
    message: command.resultMessage,
    output: command.resultOutput,
    exit_code: command.resultExitCode,
    finished_at: command.resultFinishedAtText,
    received_at: command.resultAtText,
    late: command.isLateResult,
  }
}
