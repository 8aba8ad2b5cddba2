/** Owner of the results in `commands`: only the addressed device reports; the first result wins; late ones are marked. */
import type { Outcome } from '../../domain/commands/command.ts'
import type { PushReport } from '../../domain/delivery/push-report.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Queryable } from '../postgres/pool.ts'

export interface CommandResult {
  readonly requestId: string
  readonly deviceId: string
  readonly outcome: Outcome
  readonly message: string | null
  readonly output: string | null
  readonly exitCode: number | null
  /** By the device's clock; not trusted. */
  readonly finishedAt: Date | null
  /** How its push message came; null if the phone does not say. */
  readonly push: PushReport | null
  /** Id of the HTTP request that reported it. */
  readonly httpRequestId: string
}

export type ResultOutcome =
  | {
      readonly kind: 'recorded'
      readonly action: string
      /** The admin who sent the command. */
      readonly admin: string
      readonly isLate: boolean
      /** Late but before the sweep: this statement expired the command. */
      readonly hasExpired: boolean
    }
  | { readonly kind: 'duplicate'; readonly action: string; readonly isLate: boolean }
  /** No such command, or another device's; the caller cannot tell. */
  | { readonly kind: 'unknown' }

export interface CommandResultStore {
  record(result: CommandResult): Promise<ResultOutcome>
}

const RECORD = /* sql */ `
  with target as materialized (
    select request_id, state, expires_at from commands
    where request_id = $1 and device_id = $2 and result_at is null for update),
  recorded as (
    update commands c set
      outcome = $3, result_message = $4, result_output = $5, result_exit_code = $6,
      result_finished_at = $7, result_at = now(), result_request_id = $8,
      push_received_at = $10, push_priority = $11, push_original_priority = $12,
      late_result = not (t.state = 'open' and t.expires_at > now()),
      state = case when t.state <> 'open' then t.state
                   when t.expires_at > now() then 'completed' else 'expired' end,
      ended_at = coalesce(c.ended_at, now()), next_attempt_at = null
    from target t where c.request_id = t.request_id
    returning c.request_id, c.action, c.admin, c.late_result, t.state = 'open' and c.state = 'expired' as has_expired),
  told as (
    insert into command_events (request_id, stage, code, detail, instance)
    select request_id, stage, code, detail, $9 from (
      select request_id, 1 as nth, 'expired' as stage, null as code, null::jsonb as detail
      from recorded where has_expired
      union all
      select request_id, 2, 'result', $3, jsonb_build_object('late', late_result, 'http_request_id', $8::text)
      from recorded) step
    order by nth)
  select action as "action", admin as "admin", late_result as "isLate", has_expired as "hasExpired" from recorded`

const EXISTING = /* sql */ `
  select action as "action", late_result as "isLate" from commands
  where request_id = $1 and device_id = $2`

export function commandResultStore(database: Queryable, instance: string): CommandResultStore {
  return {
    async record(result) {
      const { rows } = await database.query<{
        action: string
        admin: string
        isLate: boolean
        hasExpired: boolean
      }>({
        name: 'command_results.record',
        text: RECORD,
        values: [
          result.requestId,
          result.deviceId,
          result.outcome,
          result.message,
          result.output,
          result.exitCode,
          result.finishedAt,
          result.httpRequestId,
          instance,
          result.push?.receivedAt,
          result.push?.priority,
          result.push?.originalPriority,
        ],
      })
      const recorded = rows[0]
      if (recorded !== undefined) return { kind: 'recorded', ...recorded }
      const existing = await database.query<{ action: string; isLate: boolean }>({
        name: 'command_results.existing',
        text: EXISTING,
        values: [result.requestId, result.deviceId],
      })
      const row = existing.rows[0]
      if (row === undefined) return { kind: 'unknown' }
      await confirmReplicated(database)
      return { kind: 'duplicate', ...row }
    },
  }
}
