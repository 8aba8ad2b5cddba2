/** The configuration: defaults, sources, masking; and the secrets of a first run. */
import { statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseEnv } from 'node:util'
import t from 'tap'
import { firstRunSecrets } from '../../src/app/first-run.ts'
import {
  CONFIG_VARIABLES,
  type Config,
  maskedConfig,
  parseConfig,
} from '../../src/config/config.ts'
import {
  ACCOUNT,
  account,
  BASE64,
  type Env,
  example,
  faults,
  OTHER,
  PEM,
  PRODUCTION,
  parse,
  SECRET,
} from './settings.ts'

t.test('every variable of the table is read, and .env.example has its default', async (t) => {
  const seen = new Set<string>()
  const recorder = new Proxy<Env>({}, { get: (_env, name) => void seen.add(String(name)) })
  parseConfig(recorder, () => '')
  const read = [...seen].filter((name) => !name.endsWith('_FILE')).sort()
  t.same(read, [...CONFIG_VARIABLES].sort())
  t.same(parse(parseEnv(example)), parse({}))
  t.same([...seen].filter((name) => name.endsWith('_FILE')).length, read.length)
})

t.test('outside production the defaults are for one machine', async (t) => {
  t.match(parse({ UNKNOWN: 'x', PORT: '' }), {
    isProduction: false,
    port: 8080,
    host: '127.0.0.1',
    databaseUrl: null,
    dataDir: resolve('data'),
    adminTokens: [],
    hmacSecrets: [],
    serviceAccount: null,
    requireHttps: true,
    shutdownDrainMs: 0,
    apkMaxBytes: 209_715_200,
  })
})

t.test('production listens everywhere and drains', async (t) => {
  t.match(parse(PRODUCTION), {
    isProduction: true,
    host: '0.0.0.0',
    shutdownDrainMs: 5000,
    adminTokens: [{ name: 'ops', scopes: ['admin'], secret: SECRET }],
    hmacSecrets: [{ id: 'default', secret: SECRET }],
  })
})

t.test('production names all that is missing in one message', async (t) => {
  t.throws(() => parse({ NODE_ENV: 'production', PORT: 'x' }), {
    name: 'ConfigError',
    message:
      /PORT: [\s\S]*\n.*DATABASE_URL: missing[\s\S]*\n.*ADMIN_TOKENS: missing[\s\S]*\n.*HMAC_SECRET: missing/,
  })
})

t.test('the environment of PostgreSQL fills nothing that DATABASE_URL leaves out', async (t) => {
  const bare = { ...PRODUCTION, NODE_ENV: '', DATABASE_URL: 'postgres:///' }
  const parts = ['PGHOST', 'PGPORT', 'PGUSER', 'PGDATABASE', 'PGSSLMODE']
  for (const name of [...parts, 'PGOPTIONS', 'PGREPLICATION']) {
    t.match(faults({ ...bare, [name]: 'x' }), [new RegExp(`^DATABASE_URL: .*${name}`)])
    t.same(faults({ [name]: 'x' }), [], 'it is nobody else’s matter')
  }
  const partly = { ...bare, DATABASE_URL: 'postgres://u@h1:1,h2/d?sslmode=disable' }
  t.match(faults({ ...partly, PGPORT: '2' }), [/^DATABASE_URL: it names no port, and PGPORT/])
  const whole = { ...bare, DATABASE_URL: 'postgres://u@h:1/d?sslmode=disable' }
  for (const name of [...parts, 'PGPASSWORD']) t.same(faults({ ...whole, [name]: 'x' }), [], name)
})

t.test('admin tokens carry scopes, and secrets may hold an equals sign', async (t) => {
  const { adminTokens } = parse({ ADMIN_TOKENS: `ops=${BASE64}, ci.bot:apk+read=${SECRET}` })
  t.same(adminTokens, [
    { name: 'ops', scopes: ['admin'], secret: BASE64 },
    { name: 'ci.bot', scopes: ['apk', 'read'], secret: SECRET },
  ])
})

t.test('HMAC_SECRET is one secret, or secrets by id', async (t) => {
  const WEAK = 'changeme'.repeat(4)
  const OLD = { id: 'default', secret: SECRET }
  const cases: readonly (readonly [string, Config['hmacSecrets']])[] = [
    [SECRET, [OLD]],
    [BASE64, [{ id: 'default', secret: BASE64 }]],
    ['Qd8vXr2kWz9mBt4sLh7cYp3n==', [{ id: 'default', secret: 'Qd8vXr2kWz9mBt4sLh7cYp3n==' }]],
    [`k2=${BASE64}`, [{ id: 'k2', secret: BASE64 }]],
    [`k2=${BASE64}, default=${SECRET}`, [{ id: 'k2', secret: BASE64 }, OLD]],
    [
      `k2=${BASE64},k1=${WEAK}`,
      [
        { id: 'k2', secret: BASE64 },
        { id: 'k1', secret: WEAK },
      ],
    ],
  ]
  for (const [value, secrets] of cases) t.same(parse({ HMAC_SECRET: value }).hmacSecrets, secrets)
})

t.test('any variable comes from a file, which alone may give it', async (t) => {
  const files = { '/port': '81\n', '/secret': `${SECRET}\r\n`, '/empty': '\n' }
  t.match(parse({ PORT_FILE: '/port', HMAC_SECRET_FILE: '/secret' }, files), {
    port: 81,
    hmacSecrets: [{ secret: SECRET }],
  })
  t.match(faults({ PORT: '80', PORT_FILE: '/port' }, files), [/both PORT and PORT_FILE/])
  t.match(faults({ PORT_FILE: '/none' }, files), [/PORT_FILE names "\/none", .* \(ENOENT\)/])
  t.match(faults({ PORT_FILE: '/empty' }, files), [/PORT_FILE names "\/empty", which is empty/])
  for (const misplaced of [SECRET, `/${BASE64}`, `/${SECRET}`, `./${OTHER}/${SECRET}`]) {
    t.match(faults({ HMAC_SECRET_FILE: misplaced }), [
      /HMAC_SECRET_FILE names a file, which cannot/,
    ])
  }
})

t.test('what an editor or a script leaves at the ends of a value is no part of it', async (t) => {
  const files = { '/port': '\ufeff81\r\n\r\n', '/sa.json': `\ufeff${account({})}\n` }
  t.match(parse({ PORT_FILE: '/port\n', HOST: '::1\r', DATA_DIR: '/srv/x\r\n' }, files), {
    port: 81,
    host: '::1',
    dataDir: '/srv/x',
  })
  const { serviceAccount } = parse({ GOOGLE_APPLICATION_CREDENTIALS: '/sa.json' }, files)
  t.equal(serviceAccount?.projectId, 'fleet-1')
})

t.test('a variable that looks like a setting is told, and what others have is not', async (t) => {
  for (const [name, meant] of [
    ['HEARTBEAT_INTERVALS', 'HEARTBEAT_INTERVAL_S'],
    ['FCM_TIMEOUT', 'FCM_TIMEOUT_MS'],
    ['SHUTDOWN_GRACE_SECONDS', 'SHUTDOWN_GRACE_MS'],
    ['FLEETLOOP_DATABASE_URL', 'DATABASE_URL'],
    ['DATABSE_URL', 'DATABASE_URL'],
    ['database_url', 'DATABASE_URL'],
    ['ADMIN_TOKEN', 'ADMIN_TOKENS'],
    ['TRUSTED_PROXY', 'TRUSTED_PROXIES'],
    ['HMAC_SECRET_FILES', 'HMAC_SECRET_FILE'],
    ['\ufeffNODE_ENV', 'NODE_ENV'],
    ['LOGLEVEL', 'LOG_LEVEL'],
    ['DATABASEURL', 'DATABASE_URL'],
    ['HEARTBEAT-INTERVAL-S', 'HEARTBEAT_INTERVAL_S'],
    ['log.level', 'LOG_LEVEL'],
    ['DATABASE_POOL', 'DATABASE_POOL_MAX'],
    ['RATE_LIMIT_TOKENS', 'RATE_LIMIT_TOKENS_PER_HOUR'],
    ['HMAC_SECRET_PATH', 'HMAC_SECRET'],
    ['FLEETLOOP_PORT', 'PORT'],
    ['HEARTBEAT_INTERVAL_MIN', 'HEARTBEAT_INTERVAL_S'],
    ['https_proxy', 'HTTPS_PROXY'],
  ] as const) {
    t.same(parse({ [name]: 'x' }).unknownVariables, [{ name, meant }], name)
  }
  const others = [
    'HOSTNAME',
    'NODE_VERSION',
    'NODE_OPTIONS',
    'DATABASE_SERVICE_HOST',
    'HTTP_PROXY',
    'ALL_PROXY',
  ]
    .concat(['POSTGRES_PASSWORD', 'TEST_DATABASE_URL', 'XDG_DATA_DIRS', 'FLEETLOOP_URL', 'TZ'])
    .concat(['FLEETLOOP_TOKEN', 'FLEETLOOP_PORT_8080_TCP_PORT', 'DATABASE', 'BASE_URL', 'PORTS'])
    .concat(['LISTEN_FDS', 'WATCHDOG_USEC', 'STATE_DIRECTORY', 'npm_package_name', 'LS_COLORS'])
  t.same(parse(Object.fromEntries(others.map((name) => [name, 'x']))).unknownVariables, [])
  t.same(parse({ DATABASE_PORT: 'tcp://10.0.0.1:5432' }).unknownVariables, [], 'of Kubernetes')
  t.same(parse({ ADMIN_TOKEN: '' }).unknownVariables, [])
  const beside =
    'DATABASE_PUBLIC_URL DATABASE_PRIVATE_URL DATABASE_CONNECTION_POOL_URL DATABASE_DIRECT_URL DATABASE_REPLICA_URL database_url https_proxy no_proxy'
  const named = Object.fromEntries(beside.split(' ').map((name) => [name, 'x']))
  const set = { ...PRODUCTION, HTTPS_PROXY: 'http://127.0.0.1:1', NO_PROXY: 'x' }
  t.same(parse({ ...set, ...named }).unknownVariables, [], 'of the host, beside ours')
  const inFile = { ...set, DATABASE_URL: '', DATABASE_URL_FILE: '/url' }
  const files = { '/url': PRODUCTION.DATABASE_URL }
  t.same(parse({ ...inFile, ...named }, files).unknownVariables, [])
  const ours = { FLEETLOOP_RETENTION_DAYS: '1', HEARTBEAT_RETENTION_DAYS: '1' }
  t.match(parse(ours).unknownVariables, [{ meant: 'HEARTBEAT_RETENTION_DAYS' }])
  t.throws(() => parse({ NODE_ENV: 'production', ADMIN_TOKEN: SECRET }), {
    message:
      /ADMIN_TOKENS: missing, and NODE_ENV[\s\S]*"ADMIN_TOKEN" is no setting, and is ignored; is ADMIN_TOKENS/,
  })
  const many = Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`FCM_TIMEOUT_${n}`, 'x']))
  t.equal(parse(many).unknownVariables.length, 10)
})

t.test('the service account comes from either variable, with real newlines', async (t) => {
  const escaped = JSON.stringify({ ...ACCOUNT, private_key: String(PEM).replaceAll('\n', '\\n') })
  const expected = {
    projectId: 'fleet-1',
    clientEmail: ACCOUNT.client_email,
    privateKey: PEM,
    tokenUri: 'https://oauth2.googleapis.com/token',
  }
  const files = { '/sa.json': escaped }
  t.same(parse({ FIREBASE_SERVICE_ACCOUNT_JSON: escaped }).serviceAccount, expected)
  t.same(parse({ GOOGLE_APPLICATION_CREDENTIALS: '/sa.json' }, files).serviceAccount, expected)
  const both = {
    GOOGLE_APPLICATION_CREDENTIALS: '/sa.json',
    FIREBASE_SERVICE_ACCOUNT_JSON: escaped,
  }
  t.match(faults(both, files), [/FIREBASE_SERVICE_ACCOUNT_JSON is given too; unset one/])
  const local = parse({ FIREBASE_SERVICE_ACCOUNT_JSON: account({ token_uri: 'http://[::1]:9/t' }) })
  t.equal(local.serviceAccount?.tokenUri, 'http://[::1]:9/t')
})

t.test('URLs to loopback may be plain, CIDRs may be bare, hosts apart by spaces', async (t) => {
  t.match(
    parse({
      ...PRODUCTION,
      NODE_ENV: '',
      FCM_BASE_URL: 'http://localhost:9099/',
      TRUSTED_PROXIES: '10.0.0.0/8, ::1, fd00::/8,192.0.2.1',
      NO_PROXY: 'localhost 10.0.0.1, .example',
      DATABASE_URL: 'postgres://fleetloop@/fleetloop?host=/run/x',
    }),
    {
      fcmBaseUrl: 'http://localhost:9099',
      trustedProxies: ['10.0.0.0/8', '::1', 'fd00::/8', '192.0.2.1'],
      noProxy: ['localhost', '10.0.0.1', '.example'],
    },
  )
})

t.test('the configuration is frozen all through', async (t) => {
  const config = parse({ ...PRODUCTION, FIREBASE_SERVICE_ACCOUNT_JSON: account({}) })
  const parts = [config, config.adminTokens, config.adminTokens[0], config.adminTokens[0]?.scopes]
  for (const part of [
    ...parts,
    config.hmacSecrets[0],
    config.serviceAccount,
    config.commandActions,
  ]) {
    t.ok(Object.isFrozen(part))
  }
})

t.test('the masked configuration has every setting and no secret', async (t) => {
  const config = parse({
    ...PRODUCTION,
    ADMIN_HMAC_SECRET: OTHER,
    FIREBASE_SERVICE_ACCOUNT_JSON: account({}),
  })
  const masked = maskedConfig(config)
  t.match(masked, {
    database_url: 'postgres://fleet@db.example:5432/fleet?sslmode=verify-full',
    admin_tokens: [{ name: 'ops', scopes: ['admin'] }],
    hmac_secret_ids: ['default'],
    requires_admin_signature: true,
    push: 'fcm',
    service_account: { project_id: 'fleet-1', client_email: ACCOUNT.client_email },
  })
  t.notMatch(JSON.stringify(masked), new RegExp(`${SECRET}|${OTHER}|word|hidden|PRIVATE`))
  t.equal(Object.keys(masked).length, Object.keys(config).length + 1, 'each setting, and push')
  const many = parse({
    DATABASE_URL: 'postgres://u:p@h1:1,[::1],%2Frun/d',
    HMAC_SECRET: SECRET,
    ADMIN_TOKENS: `ops=${SECRET}`,
  })
  t.match(maskedConfig(many), {
    database_url: 'postgres://u@h1:1,[::1]:5432,%2Frun:5432/d?sslmode=disable',
  })
  t.match(maskedConfig(parse({})), { database_url: 'embedded', push: 'off', service_account: null })
})

t.test('a first run makes the secrets once, tells where they are and never what', async (t) => {
  const dataDir = join(t.testdir({}), "a'b")
  const said: string[] = []
  const first = firstRunSecrets(parse({ DATA_DIR: dataDir }), (text) => said.push(text))
  const [token] = first.adminTokens
  const [hmac] = first.hmacSecrets

  t.match(token, { name: 'local', scopes: ['admin'], secret: /^[\w-]{43}$/ })
  t.match(hmac, { id: 'default', secret: /^[\w-]{43}$/ })
  for (const name of ['admin-token', 'hmac-secret']) {
    t.equal(statSync(join(dataDir, name)).mode & 0o777, 0o600)
  }
  t.match(said.join('\n'), `'${dataDir.replace("'", `'\\''`)}/admin-token'`)
  t.notMatch(said.join('\n'), token?.secret)
  t.ok(Object.isFrozen(first) && Object.isFrozen(first.adminTokens))

  const silent = (): void => {}
  t.same(firstRunSecrets(parse({ DATA_DIR: dataDir }), silent), first)
  const given = parse({ DATA_DIR: dataDir, ADMIN_TOKENS: `ops=${SECRET}`, HMAC_SECRET: SECRET })
  t.same(firstRunSecrets(given, silent), given)
  writeFileSync(join(dataDir, 'admin-token'), '')
  t.throws(() => firstRunSecrets(parse({ DATA_DIR: dataDir }), silent), /holds no secret/)
  const production = parse(PRODUCTION)
  t.equal(firstRunSecrets(production, t.fail), production, 'production makes none')
})
