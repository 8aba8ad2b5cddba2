import { rootCertificates } from 'node:tls'
import { parseEnv } from 'node:util'
import t from 'tap'
import { CONFIG_VARIABLES } from '../../src/config/config.ts'
import {
  account,
  type Env,
  example,
  faults,
  OTHER,
  PEM,
  PRODUCTION,
  parse,
  SECRET,
  verified,
} from './settings.ts'

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
const REFUSED: readonly (readonly [name: string, value: string, fault: RegExp])[] = [
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
  ['ADMIN_TOKENS', `ops:reed=${SECRET}`, /entry 1 has an unknown scope "reed" \(is read meant\?\)/],
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
  ['FCM_BASE_URL', 'https://fcm.example ', /"https:\/\/fcm.example " .*or space/],
  ['FCM_BASE_URL', '\thttps://fcm.example', /or space/],
  ['FCM_BASE_URL', 'https://fcm.example\\v1', /give an https/],
  ['ADMIN_TOKENS', `ops="${SECRET}"`, /the secret of entry 1 stands in quotes.*: leave them out$/],
  ['ADMIN_TOKENS', `ops='${SECRET}'`, /entry 1 stands in quotes/],
  ['ADMIN_HMAC_SECRET', `"${SECRET}"`, /: the secret stands in quotes, .*: leave them out$/],
  ['GOOGLE_APPLICATION_CREDENTIALS', '~/key.json', /it names "~\/key.json", .* read \(ENOENT\)/],
  ['HTTPS_PROXY', 'proxy.example:3128', /^HTTPS_PROXY: it is no proxy; give http:/],
  ['HTTPS_PROXY', 'https://u:p@proxy.example:3128', /it is no proxy/],
  ['HTTPS_PROXY', 'http://u:100%@proxy.example:3128', /percent-encoded/],
  ['HTTPS_PROXY', 'http://proxy.example/pac', /it is no proxy/],
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

t.test('values that cannot be meant are refused', async (t) => {
  const files = { '/text': 'no certificate', '/ca': rootCertificates[0], '/key': String(PEM) }
  for (const [name, value, fault] of REFUSED) {
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
  EVENTS_RETENTION_DAYS: [1, 3_650],
  EVENTS_KEEP_ALIVE_S: [1, 60],
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
    ['APK_DEFAULT_BUILD_TYPE', 'debugStore', 'Debug'],
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

t.test(
  'a variable that shares words with a setting, or begins with our name, is told',
  async (t) => {
    for (const [name, meant] of [
      ['RATE_LIMIT_APK', 'RATE_LIMIT_APK_PER_TOKEN_PER_MIN'],
      ['RATE_LIMIT_APK_PER_MIN', 'RATE_LIMIT_APK_PER_TOKEN_PER_MIN'],
      ['HEARTBEAT_DEDUP_S', 'HEARTBEAT_DEDUP_WINDOW_S'],
      ['HEARTBEAT_EVERY_S', 'HEARTBEAT_INTERVAL_S'],
      ['DEVICE_OFFLINE_AFTER_S', 'DEVICE_OFFLINE_S'],
      ['FCM_RETRY_MS', 'FCM_RETRY_BASE_MS'],
      ['FCM_SERVICE_ACCOUNT', 'FIREBASE_SERVICE_ACCOUNT_JSON'],
      ['TRUST_PROXY', 'TRUSTED_PROXIES'],
      ['APK_DEFAULT_TYPE', 'APK_DEFAULT_BUILD_TYPE'],
      ['FLEETLOOP_RETENTION_DAYS', 'HEARTBEAT_RETENTION_DAYS'],
      ['FLEETLOOP_COLOUR', null],
      ['FLEETLOOP_ALERT_MAIL', null],
    ] as const) {
      t.same(parse({ [name]: 'x' }).unknownVariables, [{ name, meant }], name)
    }
    const others =
      'FLEETLOOP_TOKEN_FILE FLEETLOOP_SERVICE_HOST FLEETLOOP_SERVICE_PORT_HTTP FLEETLOOP_DB_SERVICE_HOST FLEETLOOP_DB_PORT_5432_TCP RETENTION_DAYS PATH npm_config_https_proxy LOG_FORMAT LOG_DIR FCM_SERVER_KEY FCM_PROJECT_ID DATABASE_NAME DATABASE_PASSWORD FIREBASE_DATABASE_URL NODE_LOG_LEVEL'.split(
        ' ',
      )
    t.same(parse(Object.fromEntries(others.map((name) => [name, 'x']))).unknownVariables, [])
    const message =
      /"FLEETLOOP_COLOUR" is no setting, and is ignored; \.env\.example lists them all$/
    t.throws(() => parse({ PORT: 'x', FLEETLOOP_COLOUR: 'red' }), { message })
  },
)
