/** Changes while connections are open: standbys that come and go, and settings. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { connect as dial } from '../../src/db/postgres/connect.ts'
import { serversOf } from '../../src/db/postgres/database-url.ts'
import { until } from '../../testkit/until.ts'
import { ordinary, ownServers, ready, urlOf } from '../helpers/own-servers.ts'
import { startService } from '../helpers/service.ts'
import { BACKGROUND, isDuration, theme } from './helpers.ts'

const { compareOnly } = theme(t, {
  'db.sync_standby_missing': ['WARN'],
  'db.sync_standby_attached': ['INFO'],
})
const servers = await ownServers(t)

t.test('a missing synchronous standby and an unsafe setting are noticed later, too', async (t) => {
  const first = await servers.primary(t)
  const second = await servers.standbyOf(t, first)
  const databaseUrl = await ordinary(first, urlOf(first))
  const db = await first.db()
  const waitFor = async (names: string) => {
    await db.query(`alter system set synchronous_standby_names = '${names}'`)
    await db.query('select pg_reload_conf()')
  }
  await waitFor('*')
  await db.query(`alter role ordinary set client_min_messages = 'error'`)
  const service = await startService(t, { databaseUrl })
  const { token } = await service.enroll('phone')
  const gauge = async () => {
    const { text } = await service.call('GET', '/metrics')
    return /^fleetloop_db_sync_standbys (\S+)$/m.exec(text)?.[1]
  }
  t.equal(await gauge(), 'NaN')
  await until(() => /^note: only members of pg_read_all_stats/m.test(service.stderr()))
  t.match(service.stderr(), /grant pg_read_all_stats to ordinary$/m)
  await db.query('grant pg_read_all_stats to ordinary')
  await until(async () => (await gauge()) === '1')
  const seenFile = join(service.dataDir, 'database-seen.json')
  t.ok(existsSync(seenFile), 'an ordinary role learns the position')

  const list = `127.0.0.1:1,nowhere.invalid,${encodeURIComponent(join(second.dataDir, 'run'))}`
  const hosts = serversOf(`postgres://fleetloop@${list}/fleetloop`)
  await t.rejects(
    dial(hosts, {}, AbortSignal.timeout(20_000)),
    {
      code: '25006',
      message:
        /^127\.0\.0\.1:1: .*ECONNREFUSED.*; nowhere\.invalid:5432: .*; .*\/run:5432: .*standby$/,
    },
    'where no host will do, each is named',
  )

  await second.kill()
  await compareOnly(t, service, 'db.sync_standby_missing', 'WARN', BACKGROUND, {
    synchronous_standby_names: '*',
  })
  t.equal(await gauge(), '0')
  let status = 0
  const beat = service.call('POST', '/v1/heartbeat', { token, body: {} }).then((response) => {
    status = response.status
  })
  await until(async () => {
    await db.query(
      `select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`,
    )
    return status !== 0
  })
  await beat
  t.equal(status, 503, 'the operator ends a wait: whatever a role shows, nothing is acknowledged')
  await second.start()
  await compareOnly(t, service, 'db.sync_standby_attached', 'INFO', BACKGROUND, {
    missing_ms: isDuration,
  })
  t.equal(await gauge(), '1')

  await db.query('alter role ordinary set synchronous_commit = local')
  const reason = async () => String(Object((await ready(service))['reasons']).database)
  await until(async () => /^session: /.test(await reason()))
  await waitFor('') // as a cluster manager does that gives up on standbys
  await db.query('alter role ordinary reset synchronous_commit')
  await until(async () => (await ready(service))['status'] === 200)
  await until(() => service.lines.of('db.sync_standby_missing').length === 2)
  t.match(service.lines.of('db.sync_standby_missing')[1], { synchronous_standby_names: '' })
})
