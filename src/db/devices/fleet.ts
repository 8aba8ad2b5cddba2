/** Counts the devices of a selection by what they last reported, in one statement: one consistent picture. */
import type { Selection } from '../../domain/selection/terms.ts'
import { timeText } from '../audit.ts'
import { OPEN_STATUS } from '../commands/lists.ts'
import type { Database, Query } from '../postgres/pool.ts'
import { APP_VERSION, JOINED } from './lists.ts'
import { conditionOf, pushState, type SelectionContext, TIMES } from './selection.ts'

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

/** Values of one text, or version codes of one package, that are named, so that phones which make theirs up cannot make the response grow. */
const MAX_VALUES = 50

const silentFor = (age: string) => /* sql */ `s.last_seen_at >= now() - interval '${age}'`

/** $1: DEVICE_OFFLINE_S, $2: whether FCM is configured. */
const MEMBERS = /* sql */ `
  select ${APP_VERSION} as app, s.agent_version as agent, d.model, d.android_version as android,
    s.network_type as network, s.app_versions as apps, coalesce(s.status, 'unknown') as status, ${pushState('$2')} as push,
    case when s.battery_pct < 20 then '0-19' when s.battery_pct < 50 then '20-49'
      when s.battery_pct is null then 'unknown' else '50-100' end as battery,
    case when s.last_seen_at is null then 'never' when ${silentFor('5 min')} then '5m'
      when ${silentFor('30 min')} then '30m' when ${silentFor('1 d')} then '1d' when ${silentFor('7 d')} then '7d'
      else 'older' end as contact,
    ${TIMES.seen} >= now() - make_interval(secs => $1) as is_online
  from ${JOINED}`
const TEXTS = ['app', 'agent', 'model', 'android', 'network'] as const
/** One set, since most devices agree on all of them with many others; their packages are counted from these. */
const APPS_KIND = TEXTS.length + 1
const FACTS = ['status', 'push', 'battery', 'contact', 'is_online'] as const

/**
 * One pass with a hash table for each text, one for the version codes and one for the facts together. A text's set has only
 * its own column, so that coalesce gives the value; `kind` is the number of its column, 0 for the facts.
 */
const summary = (where: string) => /* sql */ `
  with counted as (
    select ${[...TEXTS, 'apps'].map((column, at) => `(1 - grouping(${column})) * ${at + 1}`).join(' + ')} as kind,
      coalesce(${TEXTS.join(', ')}) as value, apps, ${FACTS.join(', ')}, count(*) as devices
    from (${MEMBERS} where ${where}) members
    group by grouping sets (${[...TEXTS, 'apps', FACTS.join(', ')].map((set) => `(${set})`).join(', ')})),
  listed as (
    select kind, null as package, value, ${FACTS.join(', ')}, devices from counted where kind <> ${APPS_KIND}
    union all
    select kind, e.key, e.value::text, ${FACTS.join(', ')}, sum(devices)
    from counted cross join lateral jsonb_each(apps) e where kind = ${APPS_KIND} group by kind, e.key, e.value, ${FACTS.join(', ')}),
  ranked as (
    select *, kind > 0 and row_number() over (partition by kind, package order by devices desc, value) > ${MAX_VALUES} as is_other
    from listed)
  select kind, package as "package", case when not is_other then value end as "value", is_other as "isOther",
    status as "status", push as "push", battery as "battery", contact as "lastContact", is_online as "isOnline",
    sum(devices)::int as "devices", null as "at"
  from ranked group by 1, 2, 3, 4, 5, 6, 7, 8, 9
  union all
  select -1, null, ${OPEN_STATUS}, false, null, null, null, null, null, count(*)::int, null
  from commands c join (${JOINED}) on d.device_id = c.device_id
  where c.state = 'open' and c.expires_at > now() and ${where} group by 3
  union all
  select -2, null, null, false, null, null, null, null, null,
    (select count(*)::int from jobs where not is_settled and ended_at is null), ${timeText('now()')}
  order by kind, "package", "isOther", "devices" desc, "value"`

interface Row extends Facts {
  readonly kind: number
  readonly package: string | null
  readonly value: string | null
  readonly isOther: boolean
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
  const [picture] = ofKind(-2)
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
    facts: ofKind(0),
    openCommands: new Map(ofKind(-1).map(({ value, devices }) => [value, devices])),
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
