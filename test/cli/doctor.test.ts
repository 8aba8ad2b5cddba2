/** `fleetloop doctor`: only ticks on a healthy system, and each planted fault with what to do. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import pg from 'pg'
import t, { type Test } from 'tap'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { readVersion } from '../../src/app/version.ts'
import { checkDatabases } from '../../src/cli/doctor/database.ts'
import { checkDisk } from '../../src/cli/doctor/disk.ts'
import { inTime } from '../../src/cli/doctor/examine.ts'
import { parseConfig } from '../../src/config/config.ts'
import { freePort } from '../../testkit/listen.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { listenFor } from '../helpers/listen.ts'
import { ADMIN, MAIN, settings, startService } from '../helpers/service.ts'
import { readCluster } from '../runner/cluster.ts'
import { run } from './run.ts'

const GOOD = 'Qd8vXr2kWz9mBt4sLh7cYp3nQd8vXr2kWz9mBt4sLh7cYp3n'
const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
const service = await startService(t, { env: pushSettings(fcm) })
await service.enroll('D01')
const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-doctor-'))
t.teardown(() => rmSync(dataDir, { recursive: true }))
const healthy = {
  ...settings(service.databaseUrl),
  ...pushSettings(fcm),
  DATA_DIR: dataDir,
  FLEETLOOP_URL: service.origin,
  FLEETLOOP_TOKEN: ADMIN,
}
type Env = Readonly<Record<string, string>>

/** What stands behind the crosses; the exit code is 1. */
async function faults(t: Test, env: Env, more: readonly string[] = [], now?: () => Date) {
  const options = { env: { ...healthy, ...env }, ...(now && { now }) }
  const { code, out, err } = await run(['doctor', ...more], options)
  t.same({ code, err }, { code: 1, err: '' }, out)
  const lines = out.trimEnd().split('\n')
  return lines.filter((line) => line.startsWith('✗ ')).join('\n')
}

t.test('a healthy system has only ticks, and nothing is written', async (t) => {
  const db = await connect(t, service.databaseUrl)
  const written = async () => (await db.query('select * from hmac_secrets')).rows
  const before = await written()
  const { code, out, err } = await run(['doctor', '--replica', service.origin], { env: healthy })
  t.same({ code, err }, { code: 0, err: '' })
  const lines = out.trimEnd().split('\n')
  t.equal(lines.length, 5)
  for (const line of lines) t.match(line, /^✓ (settings|database|push|service|disk) /)
  t.same(await written(), before)
  t.notMatch(out, GOOD)
})

t.test('a check that hangs is given up, and is a fault', async (t) => {
  const never = new Promise<never>(() => {})
  t.match(await inTime('push', never, 5), [
    { area: 'push', isGood: false, text: /^no answer within 0\.005 s: look for / },
  ])
})

t.test('before the first start: what is not there yet is no fault', async (t) => {
  const env = { DATA_DIR: join(dataDir, 'not', 'yet') }
  const { code, out } = await run(['doctor'], { env })
  t.equal(code, 0, out)
  t.match(out, /\n- database +embedded: /)
  t.match(out, /\n- push +off: /)
  t.match(out, /\n- service +not asked: FLEETLOOP_TOKEN is not set\.\n/)
  const idle = { ...env, FLEETLOOP_TOKEN: ADMIN, PORT: `${await freePort()}` }
  t.match((await run(['doctor'], { env: idle })).out, /\n- service +nothing runs at /)
})

t.test('settings', async (t) => {
  const production = { NODE_ENV: 'production', TRUSTED_PROXIES: '10.0.0.1' }
  for (const [env, expected] of [
    [{ PORT: 'http' }, /settings +PORT: "http" cannot be meant; give /],
    [{ ADMIN_TOKENS: 'ops=short' }, /settings +ADMIN_TOKENS: .* openssl rand/],
    [{ HMAC_SECRET: '' }, /settings +HMAC_SECRET: missing, /],
    [{ LOGLEVEL: 'DEBUG' }, /settings +"LOGLEVEL" is no setting, .* is LOG_LEVEL meant\?/],
    [{ LOG_LEVEL: 'LOUD' }, /settings +LOG_LEVEL: "LOUD" is not known/],
    [{ TRUSTED_PROXIES: 'nginx' }, /settings +TRUSTED_PROXIES: "nginx": give CIDRs/],
    [{ TRUSTED_PROXIES: '0.0.0.0/0' }, /proxies +TRUSTED_PROXIES: .*; list only the addresses/],
    [{ ...production, TRUSTED_PROXIES: '' }, /proxies +TRUSTED_PROXIES is empty: .*; list /],
    [{ ...production, ALLOW_UNSAFE_DATABASE: 'true' }, /settings +ALLOW_UNSAFE_DATABASE is true/],
    [
      { ...production, DATABASE_URL: 'postgres://u:p@db.example.org/f' },
      /settings +DATABASE_URL: .* add sslmode=verify-full/,
    ],
    [{ DEVICE_OFFLINE_S: '60' }, /settings +DEVICE_OFFLINE_S: less than HEARTBEAT_INTERVAL_S/],
    [{ FIREBASE_SERVICE_ACCOUNT_JSON: '{"type":"x"}' }, /settings +FIREBASE_\w+: its type is /],
    [
      { FIREBASE_SERVICE_ACCOUNT_JSON: '', GOOGLE_APPLICATION_CREDENTIALS: '/nowhere' },
      /settings +GOOGLE_\w+: it names "\/nowhere", which cannot be read/,
    ],
    [{ ADMIN_TOKENS_FILE: '/nowhere' }, /settings +ADMIN_TOKENS: both ADMIN_TOKENS and /],
  ] as const) {
    t.match(await faults(t, env), expected)
  }
})

t.test('the database, by the checks of the start', async (t) => {
  const { databaseUrl } = service
  const other = (change: (url: URL) => void) => {
    const url = new URL(databaseUrl)
    change(url)
    return { DATABASE_URL: url.href }
  }
  const nothing = other((url) => {
    url.port = '1'
  })
  t.match(
    await faults(t, nothing),
    /database +postgres:.*: (nothing listens at its port|its unix socket is not there)/,
  )
  const missing = other((url) => {
    url.pathname = '/nowhere'
  })
  t.match(await faults(t, missing), /database +.*: the server has no such database/)
  t.match(
    await faults(t, { MIGRATE_DATABASE_URL: nothing.DATABASE_URL }),
    /migrations +postgres:.*(nothing|socket)/,
  )
  t.match(await faults(t, { HMAC_SECRET: GOOD }), /secrets +HMAC_SECRET has another value/)
  t.match(await faults(t, { HMAC_SECRET: `b=${GOOD}` }), /secrets +HMAC_SECRET lacks default/)
  t.match(
    await faults(t, { DATABASE_POOL_MAX: '1000' }),
    /database +max_connections leaves \d+ connections, and this replica takes 1001 /,
  )

  const admin = await connect(t, readCluster().url)
  const name = new URL(databaseUrl).pathname.slice(1)
  const role = `${name}_doctor`
  await admin.query(`create role ${role} login`)
  t.teardown(() => admin.query(`drop role if exists ${role}`))
  const asRole = other((url) => {
    url.username = role
  })
  t.match(await faults(t, asRole), /database +.*(lacks|lets this role)/)

  // On a copy: what is set there must not meet the running service.
  const url = await createDatabase(t)
  const copy = pg.escapeIdentifier(new URL(url).pathname.slice(1))
  const set = (text: string) => admin.query(`alter database ${copy} ${text}`)
  for (const [setting, expected] of [
    ['synchronous_commit = local', /synchronous_commit is "local" and must be "on": alter role/],
    ['zero_damaged_pages = on', /zero_damaged_pages is "on" and must be "off"/],
    ['default_transaction_read_only = on', /it only reads/],
    ['search_path = nowhere', /search_path is "?nowhere/],
  ] as const) {
    await set(`set ${setting}`)
    t.match(await faults(t, { DATABASE_URL: url }), expected, setting)
    await set(`reset ${setting.replace(/ .*/, '')}`)
  }
  const db = await connect(t, url)
  await db.query(
    'alter table devices enable row level security; alter table devices force row level security',
  )
  await db.query(`insert into schema_migrations values (9999, 'later', 'x', true)`)
  await admin.query(
    `create database "${name}_ascii" encoding 'SQL_ASCII' locale 'C' template template0`,
  )
  t.teardown(() => admin.query(`drop database "${name}_ascii"`))
  const ascii = other((url) => {
    url.pathname += '_ascii'
  })
  t.match(await faults(t, ascii), /database +server_encoding is "SQL_ASCII" and must be "UTF8"/)
  t.match(await faults(t, { DATABASE_URL: url }), /migration 9999 of a newer release breaks this/)
  await db.query(`update schema_migrations set is_breaking = false where number = 9999`)
  t.equal((await run(['doctor'], { env: { ...healthy, DATABASE_URL: url } })).code, 0)
})

t.test('push: another key, another project, no way to FCM', async (t) => {
  const second = await startFakeFcm()
  t.teardown(() => second.close())
  const own = JSON.parse(fcm.serviceAccount.json)
  const { private_key } = JSON.parse(second.serviceAccount.json)
  const wrong = { FIREBASE_SERVICE_ACCOUNT_JSON: JSON.stringify({ ...own, private_key }) }
  const said = await faults(t, wrong)
  t.match(said, /push +FCM does not accept .*; give the key file of a service account/)
  t.notMatch(said, 'PRIVATE KEY')
  const other = { FIREBASE_SERVICE_ACCOUNT_JSON: JSON.stringify({ ...own, project_id: 'other' }) }
  t.match(await faults(t, other), /push +FCM does not accept .*; give the key file of a service/)
  const closed = { FCM_BASE_URL: 'http://127.0.0.1:1' }
  t.match(await faults(t, closed), /push +FCM does not accept .*; allow this host to reach/)
})

t.test('the clock, ten minutes or 45 s off; 20 s are no fault', async (t) => {
  for (const [offMs, which] of [
    [600_000, 'ahead of'],
    [-45_000, 'behind'],
  ] as const) {
    const said = await faults(t, {}, [], () => new Date(Date.now() + offMs))
    for (const whose of ['database', 'service']) {
      const about = `clock +this machine's clock is \\S+ \\w+ ${which} the ${whose}'s: syn`
      t.match(said, new RegExp(about))
    }
  }
  const now = () => new Date(Date.now() + 20_000)
  t.match(await run(['doctor'], { env: healthy, now }), { code: 0 })
})

t.test('the disk: full, or not to be written', async (t) => {
  const config = { dataDir, apkMaxBytes: 200 * 1024 ** 2 }
  const full = await checkDisk(config, async () => 5 * 1024 ** 2)
  t.match(full, { isGood: false, text: /5 MiB free, .* needs 200 MiB: make room/ })
  t.match(await checkDisk(config, async () => 200 * 1024 ** 2), { isGood: true })
  const read = parseConfig(healthy, () => '')
  const now = () => new Date()
  const ofDatabase = async (free: number) => (await checkDatabases(read, now, async () => free))[0]
  t.match(await ofDatabase(2 ** 31), { area: 'database', isGood: true })
  t.match(await ofDatabase(2 ** 31 - 1), { area: 'disk', text: / has 2047 MiB free: make room / })
  const file = join(dataDir, 'file')
  writeFileSync(file, '')
  t.match(await faults(t, { DATA_DIR: join(file, 'data') }), /disk +DATA_DIR: .* cannot be written/)
})

t.test(
  'a certificate that ends soon',
  { skip: spawnSync('openssl', ['version']).status !== 0 && 'no openssl' },
  async (t) => {
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    const health = { status: 'ok', instance_id: null, version: readVersion() }
    const examine = async (days: string) => {
      const [key, cert] = [join(dataDir, `key-${days}.pem`), join(dataDir, `cert-${days}.pem`)]
      const made = ['req', '-x509', ...curve, '-days', days, ...names, '-keyout', key, '-out', cert]
      t.equal(spawnSync('openssl', made).status, 0)
      const tls = { key: readFileSync(key), cert: readFileSync(cert) }
      const server = createTlsServer(tls, ({ url }, response) => {
        response.end(JSON.stringify(url === '/healthz' ? health : { status: 'ready', devices: [] }))
      })
      const url = `https://localhost:${await listenFor(t, server)}`
      const { PATH } = process.env
      const env = { ...healthy, PATH, NODE_EXTRA_CA_CERTS: cert, FLEETLOOP_URL: url }
      const cli = join(dirname(MAIN), 'cli.js')
      return text(spawn(process.execPath, [cli, 'doctor'], { env }).stdout)
    }
    const [soon, later] = await Promise.all(['14', '15'].map(examine))
    t.match(soon, /\n✗ tls +the certificate of localhost ends in 13 days \(.*\): renew it\n/)
    t.match(later, '✓ service')
    t.notMatch(later, 'tls')
  },
)

t.test('the running service and its replicas', async (t) => {
  t.match(
    await faults(t, { FLEETLOOP_TOKEN: GOOD }),
    /token +.* 401 token_unknown: .* Give a token/,
  )
  const nobody = `http://127.0.0.1:${await freePort()}`
  const misspelt = { FLEETLOOP_ULR: nobody, FLEETLOOP_URL: '' }
  t.match(await faults(t, misspelt), /service +not asked: FLEETLOOP_ULR is unknown;/)
  t.match(await faults(t, { FLEETLOOP_URL: nobody }), /service +.*ECONNREFUSED.* Is it running/)
  const more = ['--replica', nobody]
  t.match(await faults(t, {}, more), /replicas +.*ECONNREFUSED.* Is this replica running\?/)

  const health = { status: 'ok', instance_id: GOOD, version: readVersion() }
  const of = async (
    answers: Readonly<Record<string, readonly [number, Readonly<Record<string, unknown>>]>>,
  ) => {
    const server = createServer(({ url = '' }, response) => {
      const [status, body] = answers[url.replace(/\?.*/, '')] ?? [200, { status: 'ready' }]
      response.writeHead(status).end(JSON.stringify(body))
    })
    return `http://127.0.0.1:${await listenFor(t, server)}`
  }
  const older = await of({ '/healthz': [200, { ...health, version: '0.0.9' }] })
  const another = /versions +\S+ runs version 0\.0\.9, this is .*: roll every replica to one /
  t.match(await faults(t, { FLEETLOOP_URL: older }), another)
  const { body: ours } = await service.call('GET', '/healthz')
  const olderReplica = await of({ '/healthz': [200, { ...ours, version: '0.0.9' }] })
  t.match(await faults(t, {}, ['--replica', olderReplica]), another)
  const stranger = await of({ '/healthz': [200, health] })
  const replica = ['--replica', stranger]
  t.match(await faults(t, {}, replica), /replicas +\S+ belongs to another installation/)
  const proxy = createServer((request, response) => {
    const headers = { ...request.headers, 'x-forwarded-for': '192.0.2.1' }
    const { method, url: path } = request
    const onward = httpRequest(service.origin + path, { method, headers }, (received) => {
      response.writeHead(received.statusCode ?? 0)
      received.pipe(response)
    })
    request.pipe(onward)
  })
  const untrusted = `http://127.0.0.1:${await listenFor(t, proxy)}`
  t.match(await faults(t, { FLEETLOOP_URL: untrusted }), /proxies +the service sees plain http: /)
  const waiting = await of({
    '/healthz': [200, health],
    '/readyz': [503, { status: 'unready', reasons: { database: 'refused: nothing listens' } }],
  })
  t.match(await faults(t, { FLEETLOOP_URL: waiting }), /service +not ready: database: refused: /)
  t.match(await run(['doctor', '--replica', 'here'], { env: healthy }), { code: 2 })
})
