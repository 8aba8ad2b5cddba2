/** Phones with values that selections have trouble with: wildcards of LIKE, quotes, nulls, ages on the second. */
import type pg from 'pg'
import { seededDeviceId } from '../../testkit/database/seeded-fleet.ts'
import type { Dice } from '../../testkit/dice.ts'

/** null: never reported. Ages are in whole seconds before now(). */
export interface Phone {
  readonly number: number
  readonly deviceId: string
  readonly alias: string
  readonly model: string | null
  readonly manufacturer: string | null
  readonly android: string | null
  readonly enrolledApp: string | null
  readonly app: string | null
  readonly agent: string | null
  readonly network: string | null
  readonly status: string | null
  readonly sdk: number | null
  readonly battery: number | null
  readonly uptimeS: number | null
  readonly versionCode: number | null
  /** Version codes by package. */
  readonly apps: Readonly<Record<string, number>> | null
  readonly seenAgeS: number | null
  readonly enrolledAgeS: number
  readonly push: 'live' | 'none' | 'dead'
  readonly labels: Readonly<Record<string, string>>
  readonly hasOpen: boolean
  readonly hasEnded: boolean
  readonly isDeleted: boolean
}

const TEXTS = [
  ...[
    'R4S',
    'R4S 5G',
    'r4s',
    'R4S,5G',
    'R4S%',
    'R_S',
    'RXS',
    'R\\S',
    `R'S`,
    'R"S',
    'R*S',
    'R=S',
    '-R4S',
  ],
  ...[
    'Zürich',
    'zürich',
    '電話 1',
    '😀',
    '$1',
    '::text',
    'null',
    '',
    'R4S\u00a05G',
    '--',
    'R:S<42',
  ],
]
const VERSIONS = ['1.0.25', '1.0.250', '1.0.251', '1.1.0', '2', '2.0.0-rc.1', '1_0.25', '1.0.25%']
const LABEL_KEYS = ['site', 'ring', 'x', 'a.b-c_d', 'old']
export const PACKAGES = ['com.example.app', 'com.example.App', 'com.example.app.b_2']
const AGES_S = [
  0, 1, 59, 60, 61, 1_499, 1_500, 1_501, 3_599, 3_600, 3_601, 86_400, 604_800, 604_801,
]
/** Of a value that a phone need not report. */
const REPORTED = 0.75

export function randomPhones(dice: Dice, count: number): readonly Phone[] {
  const maybe = <T>(make: () => T): T | null => (dice.chance(REPORTED) ? make() : null)
  const labels = () =>
    Object.fromEntries(
      LABEL_KEYS.filter(() => dice.chance(0.4)).map((key) => [key, dice.pick(TEXTS)]),
    )
  const apps = () =>
    Object.fromEntries(
      PACKAGES.filter(() => dice.chance(0.6)).map((name) => [name, randomVersionCode(dice)]),
    )
  return Array.from({ length: count }, (_, index) => ({
    number: index + 1,
    deviceId: seededDeviceId(index + 1),
    alias: `${dice.pick(['STORE-', 'store_', 'Z%', 'D'])}${index + 1}`,
    model: maybe(() => dice.pick(TEXTS)),
    manufacturer: maybe(() => dice.pick(TEXTS)),
    android: maybe(() => dice.pick(['9', '12', '13', '13.1', '14'])),
    enrolledApp: maybe(() => dice.pick(VERSIONS)),
    app: maybe(() => dice.pick(VERSIONS)),
    agent: maybe(() => dice.pick(VERSIONS)),
    network: maybe(() => dice.pick(['wifi', 'WIFI', 'mobile', 'ethernet', 'none'])),
    status: maybe(() => dice.pick(['ok', 'ok', 'warn', 'error'])),
    sdk: maybe(() => 28 + dice.below(8)),
    battery: maybe(() => dice.below(101)),
    uptimeS: maybe(() => (dice.chance(0.5) ? dice.pick(AGES_S) : dice.below(3_000_000_000))),
    versionCode: maybe(() => randomVersionCode(dice)),
    apps: maybe(apps),
    seenAgeS: maybe(() => dice.pick(AGES_S)),
    enrolledAgeS: dice.pick(AGES_S),
    push: dice.pick(['live', 'none', 'dead'] as const),
    labels: labels(),
    hasOpen: dice.chance(0.3),
    hasEnded: dice.chance(0.3),
    isDeleted: dice.chance(0.1),
  }))
}

function randomVersionCode(dice: Dice): number {
  return dice.chance(0.1) ? dice.pick([0, Number.MAX_SAFE_INTEGER]) : 40 + dice.below(4)
}

const STORE_DEVICES = /* sql */ `
  insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id, model, manufacturer,
    android_version, app_version, sdk_int, fcm_token, fid, fcm_token_died_at, labels, enrolled_at, deleted_at)
  select p."deviceId", p.alias, 1, p."deviceId", 'default', 'r', p.model, p.manufacturer, p.android, p."enrolledApp",
    p.sdk, case when p.push <> 'none' and p.number % 2 = 0 then 'push-' || p.alias end,
    case when p.push <> 'none' and p.number % 2 = 1 then 'push-' || p.alias end,
    case when p.push = 'dead' then now() end, p.labels,
    now() - make_interval(secs => p."enrolledAgeS"), case when p."isDeleted" then now() end
  from jsonb_to_recordset($1) as p (number int, "deviceId" uuid, alias text, model text, manufacturer text, android text,
    "enrolledApp" text, sdk int, push text, labels jsonb, "enrolledAgeS" float8, "isDeleted" boolean)`

const STORE_STATUSES = /* sql */ `
  insert into device_status (device_id, last_seen_at, status, battery_pct, network_type, uptime_s, app_version,
    agent_version, version_code, app_versions, is_deleted)
  select p."deviceId", now() - make_interval(secs => p."seenAgeS"), p.status, p.battery, p.network, p."uptimeS", p.app,
    p.agent, p."versionCode", p.apps, p."isDeleted"
  from jsonb_to_recordset($1) as p ("deviceId" uuid, "seenAgeS" float8, status text, battery int2, network text,
    "uptimeS" int8, app text, agent text, "versionCode" int8, apps jsonb, "isDeleted" boolean)`

const STORE_COMMANDS = /* sql */ `
  insert into commands (request_id, device_id, action, params, request_hash, admin, state, ended_at, expires_at, push_state)
  select concat_ws('-', p.number, s.state), p."deviceId", 'ping', '{}', '', 'a', s.state,
    case when s.state <> 'open' then now() end, now() + interval '1 day', 'waiting'
  from jsonb_to_recordset($1) as p (number int, "deviceId" uuid, "hasOpen" boolean, "hasEnded" boolean)
  cross join (values ('open'), ('completed')) as s (state)
  where case when s.state = 'open' then p."hasOpen" else p."hasEnded" end`

/** Of one statement. */
const BATCH = 5_000

/** Ages count from the now() of the transaction, where `db` is in one. */
export async function storePhones(db: pg.ClientBase, phones: readonly Phone[]): Promise<void> {
  for (let first = 0; first < phones.length; first += BATCH) {
    const batch = JSON.stringify(phones.slice(first, first + BATCH))
    for (const text of [STORE_DEVICES, STORE_STATUSES, STORE_COMMANDS]) {
      await db.query(text, [batch])
    }
  }
  await db.query('analyze devices, device_status, commands')
}
