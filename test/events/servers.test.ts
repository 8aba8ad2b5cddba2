/** Several hosts of one cluster: a promotion, a former primary, a server that has lost something, another cluster. */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { lineTo } from '../../testkit/database/tcp-proxy.ts'
import { until } from '../../testkit/until.ts'
import { call } from '../helpers/client.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { beat, type OwnServer, ownServers, promote, ready } from '../helpers/own-servers.ts'
import { launchService, settings, startService } from '../helpers/service.ts'
import { BACKGROUND, theme } from './helpers.ts'

const { compare } = theme(t, {
  'db.rewound': ['ERROR timeline', 'ERROR lsn', 'ERROR cluster'],
})
process.setMaxListeners(64) // each server ends with this process
const servers = await ownServers(t)
const first = await servers.primary(t)
const second = await servers.standbyOf(t, first)
/** Of the tests' own server, which is another cluster. */
const foreign = await createDatabase(t)
const line = await lineTo(t, 'postgres://127.0.0.1:1/nowhere')
const { username, password, pathname } = new URL(foreign)

/** The standby comes first in the list. */
const url = new URL(`postgres://${username}:${password}@h${pathname}?sslmode=disable`)
const directories = [second, first].map(({ dataDir }) => join(dataDir, 'run'))
url.searchParams.set('port', `5432,5432,${new URL(line.url).port}`)
url.searchParams.set('target_session_attrs', 'read-write')
// Last, and not by searchParams: an encoded comma would be part of a directory's name.
url.search += `&host=${[...directories, '127.0.0.1'].map(encodeURIComponent).join(',')}`

const old = await first.db()
if (username !== 'fleetloop') await old.query(`create role ${username} superuser login`)
await old.query(`create database ${pathname.slice(1)}`)
// Nothing is acknowledged that the standby lacks, so the promotion loses nothing.
await old.query(`alter system set synchronous_standby_names = '*'`)
await old.query('select pg_reload_conf()')

const env = { HEARTBEAT_DEDUP_WINDOW_S: '0', SHUTDOWN_DRAIN_MS: '0' }
const service = await startService(t, { databaseUrl: url.href, env })
const phone = await service.enroll('phone')

const rewound = (reason: string) =>
  service.lines.waitFor((each) => each.event === 'db.rewound' && each['reason'] === reason, reason)
const databaseReason = async () => String(Object((await ready(service))['reasons']).database)
const isRead = async () => (await service.call('GET', '/admin/devices')).status === 200
const heartbeat = async ({ token }: { readonly token: string }) =>
  (await service.call('POST', '/v1/heartbeat', { token, body: {} })).status

async function heartbeatsIn({ dataDir }: OwnServer): Promise<number> {
  const host = encodeURIComponent(join(dataDir, 'run'))
  const db = await connect(t, `postgres://${username}@localhost${pathname}?host=${host}`)
  return (await db.query('select count(*)::int as n from heartbeats')).rows[0].n
}

t.test('a promoted standby is used, and connections to the old primary are closed', async (t) => {
  await beat(t, service, phone)
  await promote(second)
  // The old primary goes on and has room for us.
  const open = `select from pg_stat_activity where application_name = 'fleetloop'`
  await until(async () => (await old.query(open)).rowCount === 0)
  await beat(t, service, phone)
  t.ok((await heartbeatsIn(second)) >= 2)
  t.match(await ready(service), { status: 200 })
  t.same(service.lines.of('db.rewound'), [])
})

t.test('a former primary gets no writes, and serves reads while there is no other', async (t) => {
  const before = await heartbeatsIn(first)
  await second.stop()
  compare(t, await rewound('timeline'), 'db.rewound', 'ERROR', BACKGROUND, {
    reason: 'timeline',
    seen: /^system \d+, timeline 2, [0-9A-F]+\/[0-9A-F]+$/,
    found: /^system \d+, timeline 1, [0-9A-F]+\/[0-9A-F]+$/,
  })
  await until(isRead)
  t.equal(await heartbeat(phone), 503)
  t.match(await databaseReason(), /^rewound: /)
  second.save()
  await second.start()
  await beat(t, service, phone)
  t.equal(await heartbeatsIn(first), before)
  const countOf = (event: string) => service.lines.of(event).length
  await until(() => countOf('db.recovered') === countOf('db.unavailable'))
})

t.test('a server that has lost something gets no writes, and refuses no phone', async (t) => {
  const lost = await service.enroll('lost')
  const db = await second.db()
  const { rows } = await db.query('select pg_current_wal_flush_lsn()::text as lsn')
  await until(async () => {
    const { lsn } = JSON.parse(readFileSync(join(service.dataDir, 'database-seen.json'), 'utf8'))
    const text = 'select $1::pg_lsn > $2::pg_lsn as "isConfirmed"'
    return (await db.query(text, [lsn, rows[0].lsn])).rows[0].isConfirmed
  })
  await second.kill()
  second.restore()
  await second.start()
  compare(t, await rewound('lsn'), 'db.rewound', 'ERROR', BACKGROUND, {
    reason: 'lsn',
    seen: /timeline 2, /,
    found: /timeline 2, /,
  })
  await until(isRead)
  t.equal(await heartbeat(phone), 503)
  t.match(await databaseReason(), /^rewound: /)
  const download = async (token: string) =>
    (await service.call('GET', '/v1/apk/download-latest', { token })).body.code
  t.equal(await download(lost.token), 'not_provisioned')
  t.equal(await download(lost.enrollmentToken), 'db_unavailable', 'it may be good elsewhere')
  t.equal(service.lines.of('db.rewound').length, 2, 'one line for each server')
})

t.test('another cluster gets nothing', async (t) => {
  await first.kill()
  await second.kill()
  line.leadTo(foreign)
  compare(t, await rewound('cluster'), 'db.rewound', 'ERROR', BACKGROUND, {
    reason: 'cluster',
    seen: /^system \d+, timeline 2, /,
    found: /^system \d+, timeline \d+, /,
  })
  t.equal((await service.call('GET', '/admin/devices')).status, 503)
  line.leadTo('postgres://127.0.0.1:1/nowhere')
})

t.test('a restart remembers the loss until the operator deletes the file', async (t) => {
  t.equal(await service.stop(), 0)
  await second.start()
  const { dataDir } = service
  const { lsn } = JSON.parse(readFileSync(join(dataDir, 'database-seen.json'), 'utf8'))
  const db = await second.db()
  await until(async () => {
    await db.query(`select pg_logical_emit_message(true, 'test', ''), pg_switch_wal()`)
    const text = 'select pg_current_wal_flush_lsn() > $1::pg_lsn as "isAhead"'
    return (await db.query(text, [lsn])).rows[0].isAhead
  })
  const again = launchService(t, { ...settings(url.href), DATA_DIR: dataDir })
  const told = await again.lines.waitFor(({ event }) => event === 'db.unavailable')
  t.match(told, { cause: 'rewound', error: /has lost a part of its log/ })
  t.match(await call(await again.origin, 'GET', '/readyz'), { status: 503 })
  again.signal('SIGTERM')
  t.equal((await again.ended).code, 0)
  rmSync(join(dataDir, 'database-seen.json'))
  const accepted = await startService(t, {
    databaseUrl: url.href,
    env: { ...env, DATA_DIR: dataDir },
  })
  t.match(await ready(accepted), { status: 200 })
  t.same(accepted.lines.of('db.rewound'), [])
})
