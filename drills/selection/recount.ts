/** The summary of a fleet that lives, and a recount of the same moment in plain SQL. */
import { setTimeout as wait } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type pg from 'pg'
import { type FleetSummary, fleetSummary } from '../../src/db/devices/fleet.ts'
import { plainDatabase } from '../../testkit/database/explain.ts'
import type { Figure } from '../drill.ts'

export interface Moments {
  readonly count: number
  readonly pauseS: number
}

/** Of a service with push whose DEVICE_OFFLINE_S is the default. */
const OFFLINE_AFTER_S = 1_500
const CONTEXT = { offlineAfterS: OFFLINE_AFTER_S, isPushOn: true }

/** What is counted, by name; a name that counts nothing has no row. */
const RECOUNT = /* sql */ `
  with phones as (
    select d.device_id, d.model, d.android_version, coalesce(d.fcm_token, d.fid) as push_id, d.fcm_token_died_at,
      s.push_lowered_at, s.status, s.battery_pct, s.network_type, s.agent_version, coalesce(s.app_version, d.app_version) as app_version, s.app_versions,
      extract(epoch from now() - s.last_seen_at) as silent_s
    from devices d, device_status s where s.device_id = d.device_id and d.deleted_at is null),
  open as (
    select c.* from commands c join phones p using (device_id) where c.state = 'open' and c.expires_at > now()),
  named as (
    select 'devices' as name from phones
    union all select 'online' from phones where silent_s <= ${OFFLINE_AFTER_S}
    union all select 'status ' || coalesce(status, 'unknown') from phones
    union all select 'push none' from phones where push_id is null
    union all select 'push dead' from phones where push_id is not null and fcm_token_died_at is not null
    union all select 'push live' from phones where push_id is not null and fcm_token_died_at is null
    union all select 'lowered' from phones where push_lowered_at >= now() - interval '7 days'
    union all select 'battery unknown' from phones where battery_pct is null
    union all select 'battery 0-19' from phones where battery_pct between 0 and 19
    union all select 'battery 20-49' from phones where battery_pct between 20 and 49
    union all select 'battery 50-100' from phones where battery_pct between 50 and 100
    union all select 'contact never' from phones where silent_s is null
    union all select 'contact 5m' from phones where silent_s <= 300
    union all select 'contact 30m' from phones where silent_s > 300 and silent_s <= 1800
    union all select 'contact 1d' from phones where silent_s > 1800 and silent_s <= 86400
    union all select 'contact 7d' from phones where silent_s > 86400 and silent_s <= 604800
    union all select 'contact older' from phones where silent_s > 604800
    union all select 'appVersion ' || coalesce(app_version, 'null') from phones
    union all select 'agentVersion ' || coalesce(agent_version, 'null') from phones
    union all select 'model ' || coalesce(model, 'null') from phones
    union all select 'androidVersion ' || coalesce(android_version, 'null') from phones
    union all select 'networkType ' || coalesce(network_type, 'null') from phones
    union all select concat_ws(' ', 'appVersions', e.key, e.value)
      from phones p, jsonb_each_text(p.app_versions) e
    union all select 'open delivered' from open where delivered_at is not null
    union all select 'open sent' from open where delivered_at is null and push_state = 'sent'
    union all select 'open push_failed' from open where delivered_at is null and push_state in ('gave_up', 'no_token')
    union all select 'open queued' from open where delivered_at is null and push_state in ('waiting', 'sending'))
  select name as "name", count(*)::int as "count" from named group by name`

/** Takes both at each moment in one snapshot. */
export async function recountOften(db: pg.Client, { count, pauseS }: Moments): Promise<Figure> {
  const differences: string[] = []
  const sizes: number[] = []
  for (let moment = 1; moment <= count; moment += 1) {
    await wait(1_000 * pauseS)
    const { found, expected } = await bothOf(db)
    sizes.push(found['devices'] ?? 0)
    if (isDeepStrictEqual(found, expected)) continue
    differences.push(
      `moment ${moment}: ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`,
    )
  }
  return {
    promise: 'the fleet summary is what an SQL recount of the same moment finds',
    measured:
      differences.join('\n        ') ||
      `${count} moments, of ${Math.min(...sizes)} to ${Math.max(...sizes)} phones: no difference`,
    isHeld: differences.length === 0 && Math.max(...sizes) > 0,
  }
}

async function bothOf(db: pg.Client) {
  await db.query('begin isolation level repeatable read, read only')
  try {
    const summary = await fleetSummary(plainDatabase(db), [], CONTEXT)
    const { rows } = await db.query<{ name: string; count: number }>(RECOUNT)
    const expected = Object.fromEntries(rows.map(({ name, count }) => [name, count]))
    return { found: countsOf(summary), expected }
  } finally {
    await db.query('rollback')
  }
}

function countsOf({
  facts,
  texts,
  appVersions,
  openCommands,
}: FleetSummary): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {}
  const add = (name: string, more: number) => {
    counts[name] = (counts[name] ?? 0) + more
  }
  for (const { status, push, battery, lastContact, isOnline, isPushLowered, devices } of facts) {
    add('devices', devices)
    if (isOnline) add('online', devices)
    if (isPushLowered) add('lowered', devices)
    add(`status ${status}`, devices)
    add(`push ${push}`, devices)
    add(`battery ${battery}`, devices)
    add(`contact ${lastContact}`, devices)
  }
  for (const [name, { values, others }] of Object.entries(texts)) {
    for (const { value, devices } of values) add(`${name} ${value}`, devices)
    if (others > 0) add(`${name} others`, others)
  }
  for (const [name, { values, others }] of appVersions) {
    for (const { value, devices } of values) add(`appVersions ${name} ${value}`, devices)
    if (others > 0) add(`appVersions ${name} others`, others)
  }
  for (const [status, commands] of openCommands) add(`open ${status}`, commands)
  return counts
}
