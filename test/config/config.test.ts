/** The configuration: defaults, every refusal, masking; and the secrets of a first run. */
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { rootCertificates } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { parseEnv } from 'node:util'
import t from 'tap'
import { firstRunSecrets } from '../../src/app/first-run.ts'
import {
  CONFIG_VARIABLES,
  type Config,
  ConfigError,
  maskedConfig,
  parseConfig,
} from '../../src/config/config.ts'

const SECRET = 'q7Xv2mRk9sTz4bWc8nYd3fGh6jLp5aVe'
const OTHER = 'H4uNc8Kz2LwQe7Jr5TmXb9Pd3SyGf6Va'
const BASE64 = '8Zk3+qWm7/Xv1RtYb5NcLp0sGhJd9Ee2UfAiOo4Tx6Q='
const PRODUCTION = {
  NODE_ENV: 'production',
  DATABASE_URL:
    'postgres://fleet:pass%40word@db.example:5432/fleet?sslmode=verify-full&password=hidden',
  ADMIN_TOKENS: `ops=${SECRET}`,
  HMAC_SECRET: SECRET,
}
const PEM = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
})
const ACCOUNT = {
  type: 'service_account',
  project_id: 'fleet-1',
  client_email: 'push@fleet-1.iam.gserviceaccount.com',
  private_key: PEM,
}

type Env = Readonly<Record<string, string | undefined>>

function parse(env: Env, files: Env = {}): Config {
  return parseConfig(env, (path) => {
    const content = files[path]
    if (content === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
    return content
  })
}

function faults(env: Env, files: Env = {}): readonly string[] {
  try {
    parse(env, files)
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
  return []
}

const example = readFileSync(
  fileURLToPath(new URL('../.env.example', import.meta.resolve('#sql/x'))),
  'utf8',
)

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

t.test('with a database that is not ours, secrets are not made up', async (t) => {
  const url = 'postgres://localhost/d'
  const missing = [
    /^ADMIN_TOKENS: missing, .*DATABASE_URL/,
    /^HMAC_SECRET: missing, .*DATABASE_URL/,
  ]
  t.match(faults({ DATABASE_URL: url }), missing)
  t.match(faults({ DATABASE_URL_FILE: '/url' }, { '/url': `${url}\n` }), missing)
  t.same(faults({ ...PRODUCTION, NODE_ENV: 'test', DATABASE_URL: url }), [])
})

t.test('values that cannot be meant are refused', async (t) => {
  const refused: readonly (readonly [name: string, value: string, fault: RegExp])[] = [
    ['NODE_ENV', 'Production', /give production/],
    ['PORT', '65536', /from 0 to 65535, such as 8080/],
    ['PORT', '80.5', /cannot be meant/],
    ['PORT', '0x50', /cannot be meant/],
    ['PORT', ' 80', /cannot be meant/],
    ['PORT', '-1', /cannot be meant/],
    ['HOST', 'a b', /"a b" cannot be meant; give an address/],
    ['PORT', '"8080"', /stands in quotes/],
    ['HEARTBEAT_INTERVAL_S', '300s', /whole number of seconds from 1 to 86400, such as 300/],
    ['APK_MAX_BYTES', '200MB', /whole number of bytes/],
    ['REQUIRE_HTTPS', 'TRUE', /"TRUE" is not known \(is true meant\?\)/],
    ['DATABASE_POOL_MAX', '91', /at most 90/],
    ['DATABASE_POOL_MAX', '4', /from 5 to 1000/],
    ['DATABASE_URL', 'mysql://h/d', /postgres:\/\//],
    ['DATABASE_URL', 'postgres://u:a#b@h/d', /percent-encode/],
    ['DATABASE_URL', 'postgres://h/d?SSLMODE=require', /SSLMODE.*is sslmode meant/],
    ['MIGRATE_DATABASE_URL', 'postgres://h/d?ssl=1', /ssl, .*is sslmode meant/],
    ['DATABASE_URL', verified('&sslrootcert=/none'), /sslrootcert "\/none" cannot be read/],
    ['DATABASE_URL', verified('&sslrootcert=/text'), /sslrootcert "\/text" holds no cert/],
    ['DATABASE_URL', verified('&sslcert=/ca&sslkey=/none'), /sslkey "\/none" cannot be read/],
    ['DATABASE_URL', verified('&sslcert=/ca&sslkey=/key'), /"\/ca" and sslkey "\/key" are no/],
    ['ALLOW_PLAINTEXT_DATABASE', '1', /give true or false/],
    ['MIGRATE_DATABASE_URL', 'postgres://h/d', /without DATABASE_URL/],
    ['DATABASE_PREPARED', 'yes', /give true or false/],
    ['LOG_LEVEL', 'info', /"info" is not known \(is INFO meant\?\); give DEBUG or INFO/],
    ['METRICS_STATUS', 'fine', /coarse or exact/],
    ['ADMIN_TOKENS', SECRET, /entry 1 is not name/],
    ['ADMIN_TOKENS', 'ops=short', /entry 1 has fewer than 24/],
    ['ADMIN_TOKENS', `ops=${SECRET}é`, /no header can carry/],
    ['ADMIN_TOKENS', `ops=et_${SECRET}`, /begins like a device/],
    ['ADMIN_TOKENS', `ops:root=${SECRET}`, /entry 1 has an unknown scope; give admin, command/],
    [
      'ADMIN_TOKENS',
      `ops:reed=${SECRET}`,
      /entry 1 has an unknown scope "reed" \(is read meant\?\)/,
    ],
    ['ADMIN_TOKENS', `ops:read+read=${SECRET}`, /entry 1 has a scope twice/],
    ['ADMIN_TOKENS', `ops:=${SECRET}`, /unknown scope/],
    ['ADMIN_TOKENS', `ops:read${SECRET}=`, /unknown scope; give/],
    ['ADMIN_TOKENS', `ops=${SECRET},ops=${OTHER}`, /entries 1 and 2 have the same name/],
    ['ADMIN_TOKENS', `ops=${SECRET},ci=${SECRET}`, /entries 1 and 2 have the same secret/],
    ['ADMIN_TOKENS', `ops=${SECRET},`, /entry 2 is not name/],
    ['HMAC_SECRET', 'short', /fewer than 24/],
    [
      'HMAC_SECRET',
      'changeme'.repeat(4),
      /entry 1 looks guessable:.*"default2=…,default=<this one>"/,
    ],
    ['HMAC_SECRET', `k1=${'ab'.repeat(20)},k2=${SECRET}`, /"k12=…,k1=<this one>"/],
    ['ADMIN_HMAC_SECRET', 'the-signing-secret-of-our-admins', /looks guessable/],
    ['ADMIN_TOKENS', 'ops=0123456789abcdef0123456789abcdef', /entry 1 looks guessable/],
    ['HMAC_SECRET', 'key-2026=only-twenty-characters', /fewer than 24/],
    ['HMAC_SECRET', `a=${SECRET},a=${OTHER}`, /same id/],
    ['HMAC_SECRET', `a=${SECRET},b=${SECRET}`, /same secret/],
    ['HMAC_SECRET', `a=${SECRET},${OTHER}`, /entry 2 of 2 is not id=secret/],
    ['ADMIN_HMAC_SECRET', 'short', /fewer than 24/],
    ['FCM_BASE_URL', 'http://fcm.example', /^FCM_BASE_URL: "http:\/\/fcm.example" .*loopback only/],
    ['FCM_BASE_URL', 'http://127.0.0.1.example', /loopback only/],
    ['FCM_BASE_URL', 'https://u:p@fcm.example', /without user/],
    ['FCM_BASE_URL', 'fcm.example', /give an https/],
    ['COMMAND_ACTIONS', 'ping,Reboot', /"Reboot": give names/],
    ['COMMAND_ACTIONS', 'ping,ping', /twice/],
    ['COMMAND_ACTIONS', Array.from({ length: 65 }, (_, i) => `a${i}`).join(), /at most 64/],
    ['TRUSTED_PROXIES', '10.0.0.0/33', /"10.0.0.0\/33": give CIDRs/],
    ['TRUSTED_PROXIES', 'proxy.example', /give CIDRs/],
    ['PLAINTEXT_OK_CIDRS', '10.0.0.1,', /give CIDRs/],
    ['PLAINTEXT_OK_CIDRS', '::1/129', /give CIDRs/],
    ['APK_CACHE_BYTES', '1048576', /less than APK_MAX_BYTES/],
    ['DEVICE_OFFLINE_S', '299', /less than HEARTBEAT_INTERVAL_S/],
    ['SHUTDOWN_DRAIN_MS', '15000', /less than SHUTDOWN_GRACE_MS/],
    ['GOOGLE_APPLICATION_CREDENTIALS', '/none.json', /it names "\/none.json", .* read \(ENOENT\)/],
    ['GOOGLE_APPLICATION_CREDENTIALS', '/text', /the file holds no JSON object; give the JSON key/],
    ['GOOGLE_APPLICATION_CREDENTIALS', account({}), /give the JSON as FIREBASE_SERVICE/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', '/key.json', /looks like a path: give it as GOOGLE_/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', '{', /is no JSON object/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', 'null', /is no JSON object/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', '{"project_id":"p"}', /: client_email and private_key of it/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', '{"project_info":{}}', /google-services\.json/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', account({ type: 'authorized_user' }), /"authorized_user"/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', account({ private_key: 'x' }), /no RSA key in PEM/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', account({ project_id: 'a/b' }), /project_id/],
    ['FIREBASE_SERVICE_ACCOUNT_JSON', account({ token_uri: 'http://x.example' }), /token_uri/],
  ]
  const files = { '/text': 'no certificate', '/ca': rootCertificates[0], '/key': String(PEM) }
  for (const [name, value, fault] of refused) {
    const found = faults({ [name]: value }, files)
    t.ok(
      found.some((text) => text.startsWith(`${name}: `) && fault.test(text)),
      `${name}=${value.slice(0, 40)}`,
      { found },
    )
    t.notMatch(found.join(), new RegExp(`${SECRET}|${OTHER}|only-twenty|short`), 'no secret in it')
  }
})

/** Least and greatest. Pushes must end within their lease of 60 s: 2 × FCM_TIMEOUT_MS + 2 × 12 s. */
const RANGES: Readonly<Record<string, readonly [number, number]>> = {
  PORT: [0, 65_535],
  DATABASE_POOL_MAX: [5, 1_000],
  FCM_TTL_S: [0, 2_419_200],
  FCM_TIMEOUT_MS: [10, 15_000],
  FCM_RETRY_BASE_MS: [1, 3_600_000],
  FCM_MAX_IN_FLIGHT: [1, 1_000],
  HEARTBEAT_DEDUP_WINDOW_S: [0, 86_400],
  HEARTBEAT_INTERVAL_S: [1, 86_400],
  HEARTBEAT_RETENTION_DAYS: [1, 3_650],
  COMMAND_RETENTION_DAYS: [1, 3_650],
  AUDIT_RETENTION_DAYS: [1, 3_650],
  DOWNLOAD_RETENTION_DAYS: [1, 3_650],
  TOKEN_RETENTION_DAYS: [1, 3_650],
  DEVICE_RETENTION_DAYS: [1, 3_650],
  DEVICE_OFFLINE_S: [1, 31_536_000],
  APK_MAX_BYTES: [1_024, 10_737_418_240],
  APK_CACHE_BYTES: [1_024, 1_099_511_627_776],
  APK_MAX_DOWNLOADS: [1, 100_000],
  APK_MAX_DOWNLOADS_PER_TOKEN: [1, 100_000],
  APK_MAX_DOWNLOADS_PER_SUBNET: [1, 100_000],
  LOG_BUFFER_BYTES: [65_536, 1_073_741_824],
  RATE_LIMIT_TOKENS_PER_HOUR: [1, 1_000_000],
  RATE_LIMIT_APK_PER_TOKEN_PER_MIN: [1, 1_000_000],
  RATE_LIMIT_APK_PER_SUBNET_PER_MIN: [1, 1_000_000],
  SHUTDOWN_DRAIN_MS: [0, 600_000],
  SHUTDOWN_GRACE_MS: [100, 600_000],
}

t.test('a whole number is taken from its least to its greatest, and not beyond', async (t) => {
  for (const [name, [least, greatest]] of Object.entries(RANGES)) {
    const isRefused = (value: number) =>
      faults({ [name]: String(value) }).some((text) =>
        text.includes(`"${value}" cannot be meant; give a whole number`),
      )
    t.same([least, greatest].map(isRefused), [false, false], name)
    t.same([least - 1, greatest + 1].map(isRefused), [true, true], `${name}, beyond`)
  }
  const hasUnit = /_(?:S|MS|DAYS|BYTES)$/
  const isNumber = (name: string) =>
    hasUnit.test(name) || /^\d+$/.test(parseEnv(example)[name] ?? '')
  t.same(Object.keys(RANGES).sort(), CONFIG_VARIABLES.filter(isNumber).sort(), 'all of them')
})

t.test('what is refused only together with another is taken where it just fits', async (t) => {
  t.same(faults({ APK_MAX_BYTES: '2048', APK_CACHE_BYTES: '2048' }), [])
  t.match(faults({ APK_MAX_BYTES: '2048', APK_CACHE_BYTES: '2047' }), [/^APK_CACHE_BYTES: less/])
  t.same(faults({ HEARTBEAT_INTERVAL_S: '2000', DEVICE_OFFLINE_S: '2000' }), [])
  t.same(faults({ DATABASE_POOL_MAX: '90' }), [])
  t.same(faults({ SHUTDOWN_GRACE_MS: '5000', SHUTDOWN_DRAIN_MS: '4999' }), [])
})

/** 24 characters, 144 bits. */
const SHORTEST = 'Qd8vXr2kWz9mBt4sLh7cYp3n'
/** 32 hex digits, 128 bits. */
const WEAKEST = 'd41d8cd98f00b204e9800998ecf8427e'
const TOO_SHORT = /has fewer than 24 characters/
const TOO_WEAK = /looks guessable: about 124 bits, and 128 are needed/

t.test('what is just long or strong enough is taken, and one less is not', async (t) => {
  const before: Readonly<Record<string, string>> = {
    ADMIN_TOKENS: `ops=${SECRET},ci=`,
    HMAC_SECRET: '',
    ADMIN_HMAC_SECRET: '',
  }
  for (const [name, front] of Object.entries(before)) {
    t.same(faults({ [name]: front + SHORTEST }), [], name)
    t.match(faults({ [name]: front + SHORTEST.slice(1) }), [TOO_SHORT], name)
    t.same(faults({ [name]: front + WEAKEST }), [], name)
    t.match(faults({ [name]: front + WEAKEST.slice(1) }), [TOO_WEAK], name)
  }
  const last = `k2=${SECRET},k1=`
  t.same(faults({ HMAC_SECRET: last + SHORTEST }), [])
  t.match(faults({ HMAC_SECRET: last + SHORTEST.slice(1) }), [TOO_SHORT], 'that only verifies')
  t.match(faults({ ADMIN_TOKENS: `ops=${SECRET};ci=${SHORTEST}` }), [/separate them by commas/])
  t.same(faults({ ADMIN_TOKENS: `ops=${SECRET};ci=${SHORTEST.slice(1)}` }), [], 'one secret')
})

t.test('what is as long as it may be is taken, and one more is not', async (t) => {
  const actions = (count: number) => Array.from({ length: count }, (_, n) => `a${n}`).join()
  for (const [name, most, more] of [
    ['ADMIN_TOKENS', `${'a'.repeat(64)}=${SECRET}`, `${'a'.repeat(65)}=${SECRET}`],
    ['COMMAND_ACTIONS', 'a'.repeat(64), 'a'.repeat(65)],
    ['COMMAND_ACTIONS', actions(64), actions(65)],
    ['APK_DEFAULT_BUILD_TYPE', 'b'.repeat(32), 'b'.repeat(33)],
    ['HOST', 'h'.repeat(253), 'h'.repeat(254)],
    ['TRUSTED_PROXIES', '10.0.0.1/32', '10.0.0.1/33'],
    ['TRUSTED_PROXIES', '::1/128', '::1/129'],
  ] as const) {
    t.same(faults({ [name]: most }), [], `${name}=${most.slice(0, 20)}`)
    t.match(faults({ [name]: more }), [new RegExp(`^${name}: `)], `${name}=${more.slice(0, 20)}`)
  }
  const secretsOf = (idLength: number) =>
    parse({ HMAC_SECRET: `${'k'.repeat(idLength)}=${SECRET}` }).hmacSecrets
  t.match(secretsOf(32), [{ id: 'k'.repeat(32), secret: SECRET }])
  t.match(secretsOf(33), [{ id: 'default', secret: `${'k'.repeat(33)}=${SECRET}` }])
})

function verified(query: string): string {
  return `postgres://db.example/d?sslmode=verify-full${query}`
}

t.test('production sends nothing to another host but over TLS that verifies', async (t) => {
  const of = (url: string, more: Env = {}) => faults({ ...PRODUCTION, DATABASE_URL: url, ...more })
  const fault = /^DATABASE_URL: "db.example" is another host.*sslmode=verify-full.*ALLOW_PLAINTEXT/
  const plain = [
    'postgres://u:p@db.example/d',
    'postgres://u:p@db.example/d?sslmode=disable',
    'postgres://u:p@db.example/d?sslmode=no-verify',
    'postgres://u:p@localhost/d?host=db.example',
    'postgres://u:p@%64b.example/d',
    'postgres://u:p@127.0.0.1,db.example,[::1]/d',
  ]
  for (const url of plain) {
    t.match(of(url), [fault], url)
    t.match(of('postgres:///d', { MIGRATE_DATABASE_URL: url }), [
      /^MIGRATE_DATABASE_URL: .*another/,
    ])
    t.same(of(url, { ALLOW_PLAINTEXT_DATABASE: 'true' }), [])
    t.same(faults({ ...PRODUCTION, NODE_ENV: '', DATABASE_URL: url }), [], 'outside production')
  }
  t.match(of('postgres://db.example/d?sslmode=require'), [/give verify-full/])
  const locals = [
    'postgres:///d',
    'postgres://127.0.0.1/d',
    'postgres://[::1]/d',
    'postgres://%2Frun/d',
    'postgres://127.0.0.1:1,[::1]:2,%2Frun/d',
  ]
  for (const url of [verified(''), ...locals]) t.same(of(url), [], url)
  const unverified = of(verified(''), { NODE_TLS_REJECT_UNAUTHORIZED: '0' })
  t.match(unverified, [/^NODE_ENV: .*NODE_TLS_REJECT_UNAUTHORIZED/])
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

function account(changes: Readonly<Record<string, string>>): string {
  return JSON.stringify({ ...ACCOUNT, ...changes })
}

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
  ] as const) {
    t.same(parse({ [name]: 'x' }).unknownVariables, [{ name, meant }], name)
  }
  const others = [
    'HOSTNAME',
    'NODE_VERSION',
    'NODE_OPTIONS',
    'DATABASE_SERVICE_HOST',
    'HTTPS_PROXY',
  ]
    .concat(['POSTGRES_PASSWORD', 'TEST_DATABASE_URL', 'XDG_DATA_DIRS', 'FLEETLOOP_URL', 'TZ'])
    .concat(['FLEETLOOP_TOKEN', 'FLEETLOOP_PORT_8080_TCP_PORT', 'DATABASE', 'BASE_URL', 'PORTS'])
    .concat(['LISTEN_FDS', 'WATCHDOG_USEC', 'STATE_DIRECTORY', 'npm_package_name', 'LS_COLORS'])
  t.same(parse(Object.fromEntries(others.map((name) => [name, 'x']))).unknownVariables, [])
  t.same(parse({ DATABASE_PORT: 'tcp://10.0.0.1:5432' }).unknownVariables, [], 'of Kubernetes')
  t.same(parse({ ADMIN_TOKEN: '' }).unknownVariables, [])
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

t.test('URLs to loopback may be plain, CIDRs may be bare addresses', async (t) => {
  t.match(
    parse({
      ...PRODUCTION,
      NODE_ENV: '',
      FCM_BASE_URL: 'http://localhost:9099/',
      TRUSTED_PROXIES: '10.0.0.0/8, ::1, fd00::/8,192.0.2.1',
      DATABASE_URL: 'postgres://fleetloop@/fleetloop?host=/run/x',
    }),
    {
      fcmBaseUrl: 'http://localhost:9099',
      trustedProxies: ['10.0.0.0/8', '::1', 'fd00::/8', '192.0.2.1'],
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
