/** What a selection finds in the database; all random ones by `npm run drill -- selection`. */
import t from 'tap'
import { compareSelections } from '../../drills/selection/compare.ts'
import { compareSummaries } from '../../drills/selection/summaries.ts'
import { fleetSummary } from '../../src/db/devices/fleet.ts'
import { JOINED } from '../../src/db/devices/lists.ts'
import { conditionOf } from '../../src/db/devices/selection.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import { plainDatabase } from '../../testkit/database/explain.ts'
import { seededDeviceId } from '../../testkit/database/seeded-fleet.ts'
import { connect, createDatabase } from '../helpers/database.ts'

const db = await connect(t, await createDatabase(t))
const CONTEXT = { offlineAfterS: 1_500, isPushOn: true }

async function select(where: string, context = CONTEXT): Promise<string> {
  const { text, values } = conditionOf(parseSelection(where), context, 1)
  const sql = `select string_agg(d.alias, ' ' order by d.alias) as "aliases" from ${JOINED} where ${text}`
  const { rows } = await db.query(sql, [...values])
  return rows[0].aliases ?? ''
}

/** Three phones: S1 has a FID and reports all, S2 reports with other values, S3 was never heard of; S4 is deleted. */
t.before(async () => {
  await db.query(
    `insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id, model, manufacturer,
       android_version, app_version, sdk_int, fcm_token, fid, fcm_token_died_at, labels, enrolled_at, deleted_at)
     select d.id, d.alias, 1, d.id, 'default', 'r', d.model, d.manufacturer, d.android, '1.0', d.sdk,
       case when d.alias <> 'S1' then d.token end, case d.alias when 'S1' then d.token end,
       case d.alias when 'S2' then now() end, d.labels, now() - d.age, case d.alias when 'S4' then now() end
     from (values
       ($1::uuid, 'S1', 'R4S 5G', 'Google', '13', 33, 'a', '{"site":"zrh","ring":"beta"}'::jsonb, interval '1 d'),
       ($2::uuid, 'S2', 'R4S%', 'Acme', '14', 34, 'b', '{"site":"50%_\\\\off"}', interval '8 d'),
       ($3::uuid, 'S3', null, null, null, null, null, '{}', interval '30 d'),
       ($4::uuid, 'S4', 'R4S 5G', 'Google', '13', 33, 'a', '{"site":"zrh"}', interval '1 d')
     ) as d (id, alias, model, manufacturer, android, sdk, token, labels, age)`,
    [1, 2, 3, 4].map(seededDeviceId),
  )
  await db.query(
    `insert into device_status (device_id, last_seen_at, status, battery_pct, network_type, uptime_s, app_version, agent_version,
       version_code, app_versions)
     values
       ($1, now() - interval '1 min', 'ok', 80, 'wifi', 3600, '2.0', '3.1', 41, '{"com.a":41,"com.b":9007199254740991}'),
       ($2, now() - interval '2 h', 'warn', 15, 'mobile', 864000, '2.1', '3.2', 42, '{"com.a":42}'),
       ($3, null, null, null, null, null, null, null, null, null),
       ($4, now(), 'ok', 80, 'wifi', 3600, '2.0', '3.1', 41, '{"com.a":41}')`,
    [1, 2, 3, 4].map(seededDeviceId),
  )
  await db.query(
    `insert into commands (request_id, device_id, action, params, request_hash, admin, state, ended_at, expires_at, push_state)
     values ('open', $1, 'ping', '{}', '', 'a', 'open', null, now() + interval '1 d', 'waiting'),
       ('ended', $2, 'ping', '{}', '', 'a', 'completed', now(), now() + interval '1 d', 'sent')`,
    [1, 2].map(seededDeviceId),
  )
})

/** The term, what it selects, what its negation selects. */
const CASES: readonly (readonly [string, string, string])[] = [
  ['alias:S1,S3', 'S1 S3', 'S2'],
  ['alias:S*', 'S1 S2 S3', ''],
  ['alias:S1,*3', 'S1 S3', 'S2'],
  ['model:"R4S 5G",*%', 'S1 S2', ''],
  ['alias:s1', '', 'S1 S2 S3'],
  ['alias:S_', '', 'S1 S2 S3'],
  [`device:${seededDeviceId(2)}`, 'S2', 'S1 S3'],
  ['model:R4S*', 'S1 S2', ''],
  ['model:"R4S 5G"', 'S1', 'S2'],
  ['model:R4S%', 'S2', 'S1'],
  ['model:R4S%*', 'S2', 'S1'],
  ['manufacturer:Google', 'S1', 'S2'],
  ['android:13', 'S1', 'S2'],
  ['app:2.0', 'S1', 'S2 S3'],
  ['app:1.0', 'S3', 'S1 S2'],
  ['agent:3.*', 'S1 S2', ''],
  ['network:wifi', 'S1', 'S2'],
  ['status:warn,error', 'S2', 'S1'],
  ['label:site', 'S1 S2', 'S3'],
  ['label:ring,never', 'S1', 'S2 S3'],
  ['label:site=zrh', 'S1', 'S2'],
  ['label:site=z*,bern', 'S1', 'S2'],
  ['label:site=bern,z*,*off', 'S1 S2', ''],
  ['label:site=50%_\\off', 'S2', 'S1'],
  ['label:site=*%_\\*', 'S2', 'S1'],
  ['label:never=x', '', ''],
  ['sdk=33', 'S1', 'S2'],
  ['sdk!=33', 'S2', 'S1'],
  ['sdk>=33', 'S1 S2', ''],
  ['sdk=33,34', 'S1 S2', ''],
  ['battery<20', 'S2', 'S1'],
  ['battery<=15', 'S2', 'S1'],
  ['battery>80', '', 'S1 S2'],
  [`battery<${Number.MAX_SAFE_INTEGER}`, 'S1 S2', ''],
  ['uptime>7d', 'S2', 'S1'],
  ['version_code<42', 'S1', 'S2'],
  ['version_code=41,42', 'S1 S2', ''],
  ['version_code!=41', 'S2', 'S1'],
  ['package:com.a<42', 'S1', 'S2'],
  ['package:com.a!=41', 'S2', 'S1'],
  ['package:com.a=41,42', 'S1 S2', ''],
  [`package:com.b>=${Number.MAX_SAFE_INTEGER}`, 'S1', ''],
  ['package:com.never<42', '', ''],
  ['package:com.a', 'S1 S2', 'S3'],
  ['package:com.b,com.never', 'S1', 'S2 S3'],
  ['package:com.A', '', 'S1 S2 S3'],
  ['seen<1h', 'S1', 'S2 S3'],
  ['seen>1h', 'S2 S3', 'S1'],
  ['seen>36500d', 'S3', 'S1 S2'],
  ['enrolled<7d', 'S1', 'S2 S3'],
  ['enrolled>20d', 'S3', 'S1 S2'],
  ['online:true', 'S1', 'S2 S3'],
  ['online:false', 'S2 S3', 'S1'],
  ['push:live', 'S1', 'S2 S3'],
  ['push:dead', 'S2', 'S1 S3'],
  ['push:none', 'S3', 'S1 S2'],
  ['push:off', '', 'S1 S2 S3'],
  ['open:true', 'S1', 'S2 S3'],
  ['open:false', 'S2 S3', 'S1'],
]

t.test(
  'each term selects its live devices, and its negation the others that reported',
  async (t) => {
    t.equal(await select(''), 'S1 S2 S3', 'the empty text')
    for (const [term, holding, others] of CASES) {
      t.equal(await select(term), holding, term)
      t.equal(await select(`-${term}`), others, `-${term}`)
    }
    t.equal(await select('sdk>=33 -label:ring seen>1h'), 'S2', 'all terms must hold')
  },
)

t.test('with push off in the service the state of every device is off', async (t) => {
  const context = { ...CONTEXT, isPushOn: false }
  t.equal(await select('push:off', context), 'S1 S2 S3')
  t.equal(await select('push:live,none,dead', context), '')
})

t.test('nothing of the text is in the SQL', async (t) => {
  const word = 'Xq7'
  const where = `alias:${word}* model:${word},b label:site=${word} label:xq7 network:"';--${word}"`
  const { text, values } = conditionOf(parseSelection(where), CONTEXT, 3)
  t.notMatch(text, /Xq7/i)
  t.strictSame(
    [...text.matchAll(/\$\d+/g)].map(([parameter]) => parameter),
    values.map((_, index) => `$${index + 3}`),
  )
})

t.test('a summary names fifty values, and counts only what is open', async (t) => {
  await db.query('begin')
  const phones = Array.from({ length: 53 }, (_, n) => seededDeviceId(100 + n))
  await db.query(
    `insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id)
     select id, 'V' || n, 1, id, 'default', 'r' from unnest($1::uuid[]) with ordinality p (id, n)`,
    [phones],
  )
  // The common version is the last by its name.
  await db.query(
    `insert into device_status (device_id, app_version, app_versions)
     select id, v, jsonb_build_object('com.a', n) from (
       select id, least(n, 52) as n, lpad(least(n, 52)::text, 2, '0') as v
       from unnest($1::uuid[]) with ordinality p (id, n)) p`,
    [phones],
  )
  await db.query(
    `insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at, push_state)
     values ('overdue', $1, 'ping', '{}', '', 'a', now() - interval '1 s', 'waiting')`,
    [phones[0]],
  )
  await db.query(
    `insert into jobs (job_id, request_hash, content_hash, selection, action, params, ttl_s, min_results, admin,
       request_id, state, reason, ended_at, is_settled, devices)
     select state, '', '', '', 'ping', '{}', 60, 10, 'a', 'r', state, reason, ended_at, is_settled, 1
     from (values ('aborted', 'admin', now(), false), ('done', null, now(), true), ('running', null, null, false))
       j (state, reason, ended_at, is_settled)`,
  )
  const found = await fleetSummary(plainDatabase(db), parseSelection('alias:V*'), CONTEXT)
  await db.query('rollback')
  for (const [of, counts, common] of [
    ['the app version', found.texts.appVersion, '52'],
    ['a package', found.appVersions.get('com.a'), 52],
  ] as const) {
    t.equal(counts?.values.length, 50, of)
    t.match(counts?.values.slice(0, 2), [{ value: common, devices: 2 }, { devices: 1 }])
    t.equal(counts?.others, 2)
  }
  t.same([...found.openCommands], [])
  t.equal(found.openJobs, 1)
})

t.test('the summary of a selection is what a plain filter counts', async (t) => {
  const other = await connect(t, await createDatabase(t))
  const { differences, selections } = await compareSummaries(other, { phones: 400, seed: 25 })
  t.strictSame(differences, [])
  t.equal(selections, 41)
})

t.test('random selections find what a plain filter finds', async (t) => {
  const options = { phones: 300, selections: 400, seed: 24 }
  // The phones of the first test would be found too.
  const other = await connect(t, await createDatabase(t))
  const { selective, differences } = await compareSelections(other, options)
  t.strictSame(differences, [])
  t.ok(selective > 80, `${selective} of 400 are neither empty nor everything`)
})
