/** Counts the devices of a selection by what they last reported, in one statement: one consistent picture. */
import { LOWERED_LATELY_DAYS } from '../../domain/delivery/push-report.ts'
import { HEARTBEAT_STATUSES } from '../../domain/heartbeat.ts'
import type { Selection } from '../../domain/selection/terms.ts'
import { OPEN_STATUS } from '../commands/lists.ts'
import { timeText } from '../list-page.ts'
import type { Database, Query } from '../postgres/pool.ts'
import { APP_VERSION, JOINED } from './lists.ts'
import { conditionOf, pushStates, type SelectionContext, TIMES } from './selection.ts'

/** Texts that phones choose. */
export type CountedText = 'appVersion' | 'agentVersion' | 'model' | 'androidVersion' | 'networkType'

/** The commonest values. `others` are the devices of all further ones. */
export interface ValueCounts<T> {
  readonly values: readonly { readonly value: T; readonly devices: number }[]
  readonly others: number
}

/** Devices that agree in all of these, and how many they are. */
export interface Facts {
  readonly status: string
  readonly push: string
  readonly battery: string
  readonly lastContact: string
  readonly isOnline: boolean
  /** FCM has delivered a message to it at lowered priority in the last seven days, by which it judges. */
  readonly isPushLowered: boolean
  readonly devices: number
}

export interface FleetSummary {
  /** When the picture was taken. */
  readonly at: string
  /** null: never reported. */
  readonly texts: Readonly<Record<CountedText, ValueCounts<string | null>>>
  /** Version codes by package, of each package that some device reported. */
  readonly appVersions: ReadonlyMap<string, ValueCounts<number>>
  readonly facts: readonly Facts[]
  /** By status; one that no command has is missing. */
  readonly openCommands: ReadonlyMap<string | null, number>
  /** Scheduled, running or paused, whatever they select. */
  readonly openJobs: number
}

/** Named values of one text, or version codes of one package: phones that make theirs up cannot make the response grow. */
const MAX_VALUES = 50

const heardWithin = (age: string) => /* sql */ `s.last_seen_at >= now() - interval '${age}'`

/** Each value of a fact with its condition; the first that holds counts. $1: DEVICE_OFFLINE_S, $2: whether FCM is configured. */
const FACTS: Readonly<
  Record<Exclude<keyof Facts, 'devices'>, readonly (readonly [string, string])[]>
> = {
  status: [
    ...HEARTBEAT_STATUSES.map((status) => [status, `s.status = '${status}'`] as const),
    ['unknown', 'true'],
  ],
  push: pushStates('$2'),
  battery: [
    ['0-19', 's.battery_pct < 20'],
    ['20-49', 's.battery_pct < 50'],
    ['50-100', 's.battery_pct >= 50'],
    ['unknown', 'true'],
  ],
  lastContact: [
    ['never', 's.last_seen_at is null'],
    ...Object.entries({ '5m': '5 min', '30m': '30 min', '1d': '1 d', '7d': '7 d' }).map(
      ([value, age]) => [value, heardWithin(age)] as const,
    ),
    ['older', 'true'],
  ],
  isOnline: [
    ['true', `${TIMES.seen} >= now() - make_interval(secs => $1)`],
    ['false', 'true'],
  ],
  isPushLowered: [
    ['true', `s.push_lowered_at >= now() - interval '${LOWERED_LATELY_DAYS} d'`],
    ['false', 'true'],
  ],
}
/** All facts as one number, a digit each, the last one first: groups by five texts took longer than all the rest. */
const FACTS_NUMBER = Object.values(FACTS)
  .map((values, at) => {
    const cases = values.map(([, holds], digit) => `when ${holds} then ${digit * 10 ** at}`)
    return `case ${cases.join(' ')} end`
  })
  .join(' + ')

const TEXTS = ['app', 'agent', 'model', 'android', 'network'] as const
/** Of the sets after those of the texts, counted from 1. */
const APPS_KIND = TEXTS.length + 1
const SETS = [...TEXTS, 'apps', 'facts'] as const
const FACTS_KIND = SETS.length
/** Rows that are no set. */
const OPEN_KIND = -1
const PICTURE_KIND = -2

/** Without `offset 0` PostgreSQL expects about as many groups as devices, and sorts them instead of hashing. */
const members = (where: string) => /* sql */ `
  select ${APP_VERSION} as app, s.agent_version as agent, d.model, d.android_version as android,
    s.network_type as network, s.app_versions as apps, ${FACTS_NUMBER} as facts
  from ${JOINED} where ${where} offset 0`

/**
 * One pass with a hash table for each text, one for all version codes of a device together, and one for its facts. `kind` is
 * the number of a row's set, from 1. In each set only its own column is not null, so coalesce gives its value. The status is
 * joined to the commands by a left join, which PostgreSQL leaves out where the selection does not ask for it.
 */
const summary = (where: string) => /* sql */ `
  with counted as (
    select ${SETS.map((column, at) => `(1 - grouping(${column})) * ${at + 1}`).join(' + ')} as kind,
      coalesce(${TEXTS.join(', ')}, facts::text) as value, apps, count(*) as devices
    from (${members(where)}) members
    group by grouping sets (${SETS.map((set) => `(${set})`).join(', ')})),
  listed as (
    select kind, null as package, value, devices from counted where kind <> ${APPS_KIND}
    union all
    select kind, e.key, e.value::text, sum(devices)
    from counted cross join lateral jsonb_each(apps) e where kind = ${APPS_KIND} group by 1, 2, 3),
  ranked as (
    select *, kind <> ${FACTS_KIND}
        and row_number() over (partition by kind, package order by devices desc, value) > ${MAX_VALUES} as is_other
    from listed)
  select kind, package as "package", case when not is_other then value end as "value", is_other as "isOther",
    sum(devices)::int as "devices", null as "at"
  from ranked group by 1, 2, 3, 4
  union all
  select ${OPEN_KIND}, null, ${OPEN_STATUS}, false, count(*)::int, null
  from commands c join (devices d left join device_status s using (device_id)) on d.device_id = c.device_id
  where c.state = 'open' and c.expires_at > now() and ${where} group by 3
  union all
  select ${PICTURE_KIND}, null, null, false,
    (select count(*)::int from jobs where not is_settled and ended_at is null), ${timeText('now()')}
  order by kind, "package", "isOther", "devices" desc, "value"`

interface Row {
  readonly kind: number
  readonly package: string | null
  readonly value: string | null
  readonly isOther: boolean
  readonly devices: number
  readonly at: string | null
}

export async function fleetSummary(
  database: Database,
  selection: Selection,
  context: SelectionContext,
): Promise<FleetSummary> {
  const { rows } = await database.query<Row>(summaryQuery(selection, context))
  const ofKind = (kind: number) => rows.filter((row) => row.kind === kind)
  const textCounts = (kind: number) => countsOf(ofKind(kind), (value) => value)
  const versions = ofKind(APPS_KIND)
  const packages = [...new Set(versions.map((row) => row.package ?? ''))]
  const [picture] = ofKind(PICTURE_KIND)
  return {
    at: picture?.at ?? '',
    openJobs: picture?.devices ?? 0,
    texts: {
      appVersion: textCounts(1),
      agentVersion: textCounts(2),
      model: textCounts(3),
      androidVersion: textCounts(4),
      networkType: textCounts(5),
    },
    appVersions: new Map(
      packages.map((name) => [
        name,
        countsOf(
          versions.filter((row) => row.package === name),
          Number,
        ),
      ]),
    ),
    facts: ofKind(FACTS_KIND).map(factsOf),
    openCommands: new Map(ofKind(OPEN_KIND).map(({ value, devices }) => [value, devices])),
  }
}

function factsOf({ value, devices }: Row): Facts {
  const digits = Number(value)
  const [status = '', push = '', battery = '', lastContact = '', isOnline, isPushLowered] =
    Object.values(FACTS).map((values, at) => values[Math.floor(digits / 10 ** at) % 10]?.[0])
  return {
    ...{ status, push, battery, lastContact, devices },
    isOnline: isOnline === 'true',
    isPushLowered: isPushLowered === 'true',
  }
}

function countsOf<T>(rows: readonly Row[], read: (value: string | null) => T): ValueCounts<T> {
  return {
    values: rows.flatMap(({ value, devices, isOther }) =>
      isOther ? [] : [{ value: read(value), devices }],
    ),
    others: rows.find(({ isOther }) => isOther)?.devices ?? 0,
  }
}

/** Exported for the drill that times it. */
export function summaryQuery(selection: Selection, context: SelectionContext): Query {
  const own = [context.offlineAfterS, context.isPushOn]
  const { text, values } = conditionOf(selection, context, own.length + 1)
  return {
    name: 'devices.summary',
    isVarying: true,
    text: summary(text),
    values: [...own, ...values],
  }
}
