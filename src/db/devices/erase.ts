/**
 * Erases a deleted device: deletes its rows in every table, in batches, and writes its device_id over its alias and its
 * commands' ids in the audit log and in the feed of events. Repeatable: the next run finds what a broken one left. Last, its own row and those of its
 * tokens lose everything but ids, so that its phone still gets 410; retention deletes them.
 */
import { STATUS_FIELDS, STATUS_NAMES } from '../../domain/heartbeat.ts'
import { type AuditEntry, writeAudit } from '../audit.ts'
import { eraseEvents } from '../events/erase.ts'
import { confirmReplicated } from '../postgres/confirm-replicated.ts'
import type { Database } from '../postgres/pool.ts'

export interface DeviceEraser {
  /** `unknown`: there is no deleted device with this id. */
  erase(
    deviceId: string,
    by: Omit<AuditEntry, 'what' | 'subject' | 'detail'>,
  ): Promise<'erased' | 'erased_before' | 'unknown'>
}

interface Found {
  readonly alias: string
  readonly deletedAt: string
  readonly heirAt: string | null
}

/** Rows that one statement deletes or changes. */
const BATCH = 500

/** `heirAt`: when another phone got its alias; null: none has. */
const FIND = /* sql */ `
  select alias as "alias", deleted_at::text as "deletedAt", (
      select min(at)::text from audit_log a
      where detail->>'alias' = d.alias and detail->>'alias' is not null and what = 'device.created' and at > deleted_at
    ) as "heirAt"
  from devices d where device_id = $1 and deleted_at is not null`

/** $1: the device_id as text. Commands of the device, by the entries of their creation. */
const COMMANDS_IN_AUDIT = /* sql */ `
  select subject as "id" from audit_log
  where detail->>'device_id' = $1 and detail->>'device_id' is not null and subject <> $1 and what = 'command.create'
  limit ${BATCH}`
/** $2: ids of commands. Callers choose them, and often put the alias in. */
const RENAME_COMMANDS = /* sql */ `
  update audit_log set subject = $1, request_id = case when request_id = subject then $1 else request_id end
  where subject = any ($2::text[]) and what = any (array['command.create', 'command.cancel'])`
const COMMANDS = /* sql */ `
  select request_id as "id" from commands where device_id = $1::uuid limit ${BATCH}`
/** Its deletion leaves those that are overdue to the sweep. A job counts a member as ended by an update, not by a delete. */
const END_COMMANDS = /* sql */ `
  update commands set state = 'expired', ended_at = now(), next_attempt_at = null
  where request_id = any ($1::text[]) and state = 'open'`
const DELETE_COMMANDS = /* sql */ `delete from commands where request_id = any ($1::text[])`

/** An entry by the device itself has its address, and perhaps an id that it chose. */
const RENAME_DEVICE = /* sql */ `
  update audit_log set detail = jsonb_set(detail - array['labels', 'proof'], '{alias}', to_jsonb($1::text)),
    ip = case when admin is not null then ip end,
    request_id = case when admin is not null then request_id else $1 end
  where audit_id = any (array(
    select audit_id from audit_log
    where subject = $1 and what like 'device.%' and detail->>'alias' <> $1 limit ${BATCH}))`
/** $2: the alias, $3: when the device was deleted. Later ones are of another phone. */
const RENAME_TOKENS_IN_AUDIT = /* sql */ `
  update audit_log set detail = jsonb_set(detail - 'labels', '{alias}', to_jsonb($1::text))
  where audit_id = any (array(
    select audit_id from audit_log
    where detail->>'alias' = $2 and detail->>'alias' is not null and at <= $3::timestamptz
      and what like 'enrollment_token.%' limit ${BATCH}))`
/** A job of this phone alone. */
const IS_OWN_JOB = /* sql */ `(devices = 1 and exists (
  select from job_members m where m.job_no = jobs.job_no and m.n = 1 and m.device_id::text = $1::text))`
/** The entry of such a job, or of labels that it alone got: entries of one transaction have one time. $4: the alias. */
const IS_OWN_ENTRY = /* sql */ `(detail->>'devices' = '1' and (
  detail->>'where' = any (array['alias:' || $4, 'device:' || $1])
  or what = 'job.create' and subject = any (array(select job_id from jobs where ${IS_OWN_JOB}))
  or what = 'devices.label' and (request_id, at) in (
    select request_id, at from audit_log where subject = $1 and what = 'device.label')))`
/** $2: a pattern of the alias as a whole word, $3: when another phone got it; what names it since then means that one. */
const RENAME_SELECTIONS = /* sql */ `
  update audit_log set detail = case when ${IS_OWN_ENTRY}
    then (detail - 'labels') || jsonb_build_object('where', 'device:' || $1)
    else jsonb_set(detail, '{where}', to_jsonb(regexp_replace(detail->>'where', $2, $1, 'g'))) end
  where what = any (array['devices.label', 'job.create']) and at < coalesce($3::timestamptz, 'infinity')
    and (detail->>'where' ~ $2 or ${IS_OWN_ENTRY})`
const RENAME_JOBS = /* sql */ `
  update jobs set
    selection = case when ${IS_OWN_JOB} then 'device:' || $1 else regexp_replace(selection, $2, $1, 'g') end,
    params = case when ${IS_OWN_JOB} then '{}' else params end, note = case when ${IS_OWN_JOB} then null else note end
  where created_at < coalesce($3::timestamptz, 'infinity') and (selection ~ $2 or ${IS_OWN_JOB})`
/** The commonest failure of a job, where only this device reported it. */
const FAILURES = /* sql */ `
  update jobs j set failure_message = null, failure_count = null
  from commands c
  where c.device_id = $1::uuid and j.job_no = c.job_no and j.failure_count = 1
    and j.failure_message = coalesce(nullif(c.result_message, ''), c.outcome)`

/** Binds the token of its first enrollment to its alias, if it was for one phone; what follows finds tokens by alias. */
const BIND_TOKEN = /* sql */ `
  with its as (
    update enrollment_tokens t set alias = $2 from audit_log a
    where a.subject = $1 and a.what = 'device.created' and t.token_id = (a.detail->>'token_id')::uuid
      and t.alias is null and t.uses_allowed = 1
    returning t.token_id)
  update audit_log set detail = jsonb_set(detail, '{alias}', to_jsonb($2::text))
  where subject = any (array(select token_id::text from its)) and what like 'enrollment_token.%'`
/** $2: the alias, $3: when the device was deleted; together with the downloads by its tokens. */
const DOWNLOADS = /* sql */ `
  delete from apk_download_events where event_id = any (array(
    select event_id from apk_download_events where device_id = $1::uuid
    union all
    select e.event_id from enrollment_tokens t join apk_download_events e using (token_id)
    where t.alias = $2 and t.issued_at <= $3::timestamptz
    limit ${BATCH}))`
const TOKENS = /* sql */ `
  update enrollment_tokens set alias = $1, note = null, labels = '{}',
    revoked_at = case when uses_consumed < uses_allowed and expires_at > now() then coalesce(revoked_at, now())
      else revoked_at end
  where token_id = any (array(
    select token_id from enrollment_tokens where alias = $2 and issued_at <= $3::timestamptz limit ${BATCH}))`

const BLANK_TOKENS = /* sql */ `update device_tokens set request_id = $1 where device_id = $1::uuid`
const BLANK_STATUS = /* sql */ `
  update device_status set last_seen_at = null, effective_at = null, request_id = null, clock_lag_s = null, clock_offset_s = null,
    offline_at = null, push_lowered_at = null, app_versions = null, ${STATUS_NAMES.map((name) => `${STATUS_FIELDS[name].column} = null`).join(', ')}
  where device_id = $1::uuid`
const BLANK_DEVICE = /* sql */ `
  update devices set alias = $1, hardware_id = null, fcm_token = null, fid = null, fcm_token_at = null, app_version = null,
    model = null, manufacturer = null, android_version = null, sdk_int = null, labels = '{}', request_id = $1
  where device_id = $1::uuid and deleted_at is not null`

/** `history` deletes the heartbeats. */
export function deviceEraser(
  database: Database,
  history: { erase(deviceId: string): Promise<void> },
): DeviceEraser {
  const change = async (name: string, text: string, values: readonly unknown[]) =>
    (await database.query({ name, text, values })).rowCount

  /** Until a statement finds less than a batch. */
  async function all(name: string, text: string, values: readonly unknown[]): Promise<void> {
    while ((await change(name, text, values)) >= BATCH);
  }

  async function eraseCommands(deviceId: string): Promise<void> {
    const idsOf = async (name: string, text: string) => {
      const { rows } = await database.query<{ id: string }>({ name, text, values: [deviceId] })
      return rows.map(({ id }) => id)
    }
    const rename = (ids: readonly string[]) =>
      change('erase.rename_commands', RENAME_COMMANDS, [deviceId, ids])
    for (;;) {
      const ids = await idsOf('erase.commands', COMMANDS)
      if (ids.length === 0) break
      await rename(ids)
      await change('erase.end_commands', END_COMMANDS, [ids])
      await change('erase.delete_commands', DELETE_COMMANDS, [ids])
    }
    for (;;) {
      const ids = await idsOf('erase.commands_in_audit', COMMANDS_IN_AUDIT)
      if (ids.length === 0) return
      await rename(ids)
    }
  }

  return {
    async erase(deviceId, by) {
      const query = { name: 'erase.find', text: FIND, values: [deviceId] }
      const [device] = (await database.query<Found>(query)).rows
      if (device === undefined) return 'unknown'
      if (device.alias === deviceId) {
        await confirmReplicated(database)
        return 'erased_before'
      }
      const { alias, deletedAt, heirAt } = device
      const named = [deviceId, alias, deletedAt]
      await change('erase.failures', FAILURES, [deviceId])
      // A member that still waits gets its command, a cancelled one, with what the job then has.
      const words = [deviceId, wordOf(alias), heirAt]
      await change('erase.rename_jobs', RENAME_JOBS, words)
      await eraseCommands(deviceId)
      await eraseEvents(database, deviceId)
      await history.erase(deviceId)
      await change('erase.bind_token', BIND_TOKEN, [deviceId, alias])
      await all('erase.downloads', DOWNLOADS, named)
      await all('erase.tokens', TOKENS, named)
      await all('erase.rename_tokens', RENAME_TOKENS_IN_AUDIT, named)
      await all('erase.rename_device', RENAME_DEVICE, [deviceId])
      await change('erase.rename_selections', RENAME_SELECTIONS, [...words, alias])
      await database.transaction(async (tx) => {
        for (const [name, text] of [
          ['erase.blank_status', BLANK_STATUS],
          ['erase.blank_device', BLANK_DEVICE],
          ['erase.blank_tokens', BLANK_TOKENS],
        ] as const) {
          await tx.query({ name, text, values: [deviceId] })
        }
        await writeAudit(tx, {
          ...by,
          what: 'device.erase',
          subject: deviceId,
          detail: { alias: deviceId },
        })
      })
      return 'erased'
    },
  }
}

/** Its letters, and those that may surround them in another alias. */
function wordOf(alias: string): string {
  const letters = alias.replaceAll('.', String.raw`\.`)
  return `(?<![A-Za-z0-9._-])${letters}(?![A-Za-z0-9._-])`
}
