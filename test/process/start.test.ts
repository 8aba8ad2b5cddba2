/** The beginning of the process: what it refuses to start on, and what it waits for. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import t, { type Test } from 'tap'
import { makeServiceAccount } from '../../sim/fcm/service-account.ts'
import { readMigrations } from '../../src/db/schema/migrate.ts'
import { seededToken, seedFleet } from '../../testkit/database/seeded-fleet.ts'
import { untilMidnightIsFar } from '../../testkit/until.ts'
import { call } from '../helpers/client.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { ADMIN, launchService, refused, settings, startService } from '../helpers/service.ts'
import { readCluster, urlOf } from '../runner/cluster.ts'

const OLD = 'Tn5xJw8qRe3zUb6mKy9aHs2d'
const NEW = 'Gv4pLc7fZk2tXj8nWq5rMd9b'
/** As it was accepted once. */
const WEAK = 'change-me-change-me-change-me'

/** A database that is not there yet; created empty, and dropped at the end of `t`. */
async function absentDatabase(t: Test) {
  const name = `test_${randomBytes(6).toString('hex')}`
  const admin = await connect(t, readCluster().url)
  t.teardown(() => admin.query(`drop database if exists ${name} with (force)`))
  return {
    url: urlOf(readCluster(), name),
    create: () => admin.query(`create database ${name}`),
  }
}

t.test('a migration that was edited after it ran is refused', async (t) => {
  const databaseUrl = await createDatabase(t)
  const db = await connect(t, databaseUrl)
  await db.query(`update schema_migrations set sha256 = 'other' where number = 2`)
  t.match(await refused(t, settings(databaseUrl)), /0002_\w+\.sql/)
})

t.test('a newer schema is refused only where it breaks with this release', async (t) => {
  const databaseUrl = await createDatabase(t)
  const db = await connect(t, databaseUrl)
  await db.query(`insert into schema_migrations values (9998, '9998_additive', 'x', false)`)
  await startService(t, { databaseUrl })
  await db.query(`insert into schema_migrations values (9999, '9999_breaking', 'x', true)`)
  t.match(await refused(t, settings(databaseUrl)), '9999_breaking')
})

t.test('an HMAC secret that devices still use may not be dropped', async (t) => {
  const [old, fresh] = [`old=${OLD}`, `new=${NEW}`]
  const first = await startService(t, { env: { HMAC_SECRET: old } })
  const device = await first.enroll('D01')
  const { databaseUrl } = first
  t.equal(await first.stop(), 0)
  const said = await refused(t, { ...settings(databaseUrl), HMAC_SECRET: fresh })
  t.match(said, /\bold\b/)
  t.notMatch(said, OLD)
  const rotated = await startService(t, {
    databaseUrl,
    env: { HMAC_SECRET: `${fresh},${old}` },
  })
  const beat = await rotated.call('POST', '/v1/heartbeat', { token: device.token, body: {} })
  t.equal(beat.status, 200, 'its token and key go on')
  const { deviceId } = device
  t.equal((await rotated.call('DELETE', `/admin/devices/${deviceId}`)).status, 204)
  t.equal(await rotated.stop(), 0)
  await startService(t, { databaseUrl, env: { HMAC_SECRET: fresh } }) // no live device needs it
})

t.test('an HMAC secret that devices still use may not come back as another', async (t) => {
  const first = await startService(t, { env: { HMAC_SECRET: OLD } })
  const device = await first.enroll('D01')
  const { databaseUrl } = first
  t.equal(await first.stop(), 0)
  const said = await refused(t, { ...settings(databaseUrl), HMAC_SECRET: NEW })
  t.match(said, 'another value')
  t.notMatch(said, new RegExp(`${OLD}|${NEW}`))
  const again = await startService(t, { databaseUrl, env: { HMAC_SECRET: OLD } })
  const beat = await again.call('POST', '/v1/heartbeat', { token: device.token, body: {} })
  t.equal(beat.status, 200, 'put back, the phone goes on')
})

t.test('a weak HMAC secret signs nothing, and the phones that it has go on', async (t) => {
  const databaseUrl = await createDatabase(t)
  const weak = { id: 'default', secret: WEAK }
  await seedFleet(await connect(t, databaseUrl), weak, 1)
  const said = await refused(t, { ...settings(databaseUrl), HMAC_SECRET: WEAK })
  t.match(
    said,
    /HMAC_SECRET: .*openssl rand -base64 32.*HMAC_SECRET="default2=…,default=<this one>"/,
  )
  t.notMatch(said, WEAK)
  const service = await startService(t, {
    databaseUrl,
    env: { HMAC_SECRET: `new=${NEW},default=${WEAK}` },
  })
  const beat = { token: seededToken(weak, 1), body: {} }
  t.equal((await service.call('POST', '/v1/heartbeat', beat)).status, 200)
})

t.test('a database that is away at the start is waited for', async (t) => {
  const { url, create } = await absentDatabase(t)
  const launched = launchService(t, settings(url))
  const origin = await launched.origin
  const start = await launched.lines.waitFor((line) => line.event === 'service.start')
  t.match(start, { instance_id: null, config: { push: 'off' } })
  t.equal((await call(origin, 'GET', '/healthz')).status, 200)
  t.match(await call(origin, 'GET', '/readyz'), {
    status: 503,
    body: { code: 'db_unavailable', reasons: { database: String } },
  })
  for (const [path, token] of [
    ['/admin/devices', ADMIN],
    ['/metrics', ADMIN],
    ['/admin/devices', 'wrong'],
    ['/v1/apk/download-latest', `et_${'a'.repeat(43)}`],
    ['/v1/apk/download-latest', `dt_${'a'.repeat(43)}`],
  ] as const) {
    const response = await call(origin, 'GET', path, { token })
    t.match(
      response,
      { status: 503, body: { code: 'db_unavailable' } },
      `${path} ${token.slice(0, 3)}`,
    )
    t.ok(response.headers.get('retry-after'))
  }
  t.equal((await call(origin, 'GET', '/v1/nowhere')).status, 404)
  t.equal((await launched.lines.atLeast(1, 'db.unavailable')).length, 1)

  await create()
  await launched.lines.waitFor((line) => line.event === 'service.ready')
  t.equal((await call(origin, 'GET', '/readyz')).status, 200)
  t.equal((await call(origin, 'GET', '/admin/devices', { token: ADMIN })).status, 200)
  t.equal(launched.lines.of('db.recovered').length, 1)
  t.equal(launched.lines.of('service.start').length, 1)
  launched.signal('SIGTERM')
  t.equal((await launched.ended).code, 0)
})

t.test('a DATA_DIR that cannot be written to is refused', async (t) => {
  const given = settings(await createDatabase(t))
  for (const dir of ['/dev/null', ...(existsSync('/proc/self') ? ['/proc', '/proc/self'] : [])]) {
    const told = await refused(t, { ...given, DATA_DIR: `${dir}/data` })
    t.match(told, new RegExp(`DATA_DIR: .*${dir}/data`))
  }
})

t.test('a port that is taken is told in a line', async (t) => {
  const { origin, databaseUrl } = await startService(t)
  const { port } = new URL(origin)
  const launched = launchService(t, { ...settings(databaseUrl), PORT: port })
  t.equal((await launched.ended).code, 1)
  t.match(launched.notes(), new RegExp(`EADDRINUSE.*:${port}\\. Give a PORT that is free`))
  t.notMatch(launched.notes(), /\n +at /)
  const elsewhere = launchService(t, { ...settings(databaseUrl), HOST: '203.0.113.1' })
  t.equal((await elsewhere.ended).code, 1)
  t.match(elsewhere.notes(), /^listen EADDRNOTAVAIL.* Give a HOST that is/m)
  for (const host of [
    'nowhere.invalid',
    ...(existsSync('/proc/net/if_inet6') ? ['fe80::1'] : []),
  ]) {
    const nowhere = launchService(t, { ...settings(databaseUrl), HOST: host })
    const code = (await nowhere.ended).code
    if (/EAI_AGAIN/.test(nowhere.notes())) {
      t.equal(code, 1, 'no name server here: it may come')
      continue
    }
    t.equal(code, 78, host)
    const told = `cannot be used: HOST: .*${host}; give an address or a name of this machine$`
    t.match(nowhere.notes(), new RegExp(told, 'm'))
  }
})

t.test('a signal ends the wait for a database', async (t) => {
  const launched = launchService(t, {
    ...settings('postgres://127.0.0.1:1/nowhere'),
    SHUTDOWN_DRAIN_MS: '12000',
  })
  await launched.lines.waitFor((line) => line.event === 'service.start')
  launched.signal('SIGTERM')
  t.equal((await launched.ended).code, 0)
  const last = launched.lines.all.at(-1)
  t.match(last, { event: 'service.stop', reason: 'SIGTERM' })
  t.ok(Number(last?.['drained_ms']) < 12_000, 'nobody was ever sent here: no drain')
})

t.test('replicas that start at once on an empty database are one installation', async (t) => {
  await untilMidnightIsFar()
  const { url, create } = await absentDatabase(t)
  await create()
  const replicas = [1, 2, 3].map(() => launchService(t, settings(url)))
  const ids = new Set<unknown>()
  for (const { lines, origin } of replicas) {
    await lines.waitFor((line) => line.event === 'service.ready')
    t.equal((await call(await origin, 'GET', '/readyz')).status, 200)
    ids.add((await call(await origin, 'GET', '/healthz')).body.instance_id)
  }
  t.equal(ids.size, 1, 'one instance_id')
  const db = await connect(t, url)
  const { rows } = await db.query('select number from schema_migrations order by number')
  t.same(
    rows.map((row) => row.number),
    readMigrations().map(({ number }) => number),
  )
  const made = replicas.flatMap(({ lines }) => lines.of('partition.create'))
  const timeOf = (partition: unknown) =>
    Date.parse(String(partition).replace(/^heartbeats_(....)(..)/, '$1-$2-'))
  const days = made.map(({ partition, last }) => timeOf(last ?? partition) - timeOf(partition))
  const sum = days.reduce((sum, ms) => sum + ms / 86_400_000 + 1, 0)
  t.equal(sum, 8, 'each partition was made once')
  t.equal(replicas.flatMap(({ lines }) => lines.of('partition.fail')).length, 0)
})

t.test('the configuration is logged once, and no secret anywhere', async (t) => {
  const account = await makeServiceAccount({ tokenUri: 'http://127.0.0.1:1/token' })
  const secrets = {
    admin: 'second-admin-Qd8vXr2kWz9mBt4sLh7cYp3n',
    hmac: 'hmac-Qd8vXr2kWz9mBt4sLh7cYp3n',
    signing: 'admin-hmac-Qd8vXr2kWz9mBt4sLh7cYp3n',
    password: `password-${'p'.repeat(16)}`,
  }
  const databaseUrl = new URL(await createDatabase(t))
  databaseUrl.password = secrets.password
  const service = await startService(t, {
    databaseUrl: databaseUrl.href,
    env: {
      ADMIN_TOKENS: `tester=${ADMIN},second:read=${secrets.admin}`,
      HMAC_SECRET: secrets.hmac,
      ADMIN_HMAC_SECRET: secrets.signing,
      FIREBASE_SERVICE_ACCOUNT_JSON: account.json,
      FCM_BASE_URL: 'http://127.0.0.1:1',
      LOG_LEVEL: 'DEBUG',
      HEARTBEAT_INTERVALS: '60',
    },
  })
  await service.call('GET', '/admin/devices', { token: secrets.admin })
  await service.call('GET', '/admin/devices', { token: secrets.hmac })
  t.equal(await service.stop(), 0)
  const starts = service.lines.of('service.start')
  t.equal(starts.length, 1)
  t.match(starts[0], { version: String, instance_id: String, config: { push: 'on' } })
  const meant = { name: 'HEARTBEAT_INTERVALS', meant: 'HEARTBEAT_INTERVAL_S' }
  t.match(starts[0], { config: { unknown_variables: [meant] } })
  t.match(service.stderr(), /^"HEARTBEAT_INTERVALS" is no setting.*is HEARTBEAT_INTERVAL_S meant/m)
  const printed = `${service.lines.raw.join('\n')}\n${service.stderr()}`
  const key: string = JSON.parse(account.json).private_key
  for (const [name, secret] of Object.entries({ ...secrets, ADMIN, key: key.slice(40, 100) })) {
    t.notOk(printed.includes(secret), `${name} is not printed`)
    t.notOk(
      printed.includes(JSON.stringify(secret).slice(1, -1)),
      `${name} is not printed, escaped`,
    )
  }
  t.match(printed, 'tester', 'names are')
})
