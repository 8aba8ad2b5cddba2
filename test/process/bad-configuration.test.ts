/** What an operator types wrong at the first start: one line on stderr with the setting and the cure, and exit 78. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseArguments } from '../../src/app/arguments.ts'
import { parseConfig } from '../../src/config/config.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { MAIN } from '../helpers/service.ts'

const PACKAGE = fileURLToPath(import.meta.resolve('#package.json'))
/** Processes that start together. */
const AT_ONCE = 4
const SECRET = 'q7Xv2mRk9sTz4bWc8nYd3fGh6jLp5aVe'
const OTHER = 'H4uNc8Kz2LwQe7Jr5TmXb9Pd3SyGf6Va'

type Env = Readonly<Record<string, string>>

const directory = tempDirectory(t)

async function run(env: Env, ...args: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], PORT: '0', DATA_DIR: join(directory, 'data'), ...env },
  })
  const out = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      out[name] += text
    })
  }
  const [code] = await once(child, 'close')
  return { code, ...out }
}

const file = (name: string, content: string): string => {
  const path = join(directory, name)
  writeFileSync(path, content)
  return path
}

const WHOLE = {
  NODE_ENV: 'production',
  DATABASE_URL: 'postgres://fleet:hunter2@localhost/fleet',
  ADMIN_TOKENS: `ops=${SECRET}`,
  HMAC_SECRET: OTHER,
}
/** What is changed, and what the line says: the setting first, the cure last. */
const BAD: readonly (readonly [change: Env, line: RegExp])[] = [
  [{ NODE_ENV: 'prod' }, /NODE_ENV: "prod" .*; give production/],
  [{ DATABASE_URL: '' }, /DATABASE_URL: missing, .*give postgres:\/\/user/],
  [{ NODE_ENV: '', HMAC_SECRET: '' }, /HMAC_SECRET: missing, .*DATABASE_URL.*openssl rand/],
  [{ DATABASE_URL: 'mysql://u@h/d' }, /DATABASE_URL: give postgres:\/\/user:password@host/],
  [{ DATABASE_URL: 'postgres://u:hunter#2@localhost/d' }, /DATABASE_URL: .*percent-encode/],
  [
    { DATABASE_URL: 'postgres://u:hunter2@db.example/d' },
    /DATABASE_URL: "db.example" .*sslmode=verify-full/,
  ],
  [{ DATABASE_URL: 'postgres://localhost/d?ssl=1' }, /DATABASE_URL: .*is sslmode meant/],
  [{ NODE_ENV: 'prodcution' }, /NODE_ENV: "prodcution" .*; give production/],
  [{ DATABASE_URL: 'postgres://u:hunter2@h:99999/d' }, /DATABASE_URL: its port .*; give 5432/],
  [{ HOST: '0.0.0.0:8080' }, /HOST: "0.0.0.0:8080" .*give an address .*without a port/],
  [{ HOST: '256.0.0.1' }, /HOST: "256.0.0.1" .*give an address/],
  [
    { ADMIN_TOKENS: `a=${SECRET};b=${OTHER}` },
    /ADMIN_TOKENS: entry 1 holds a semicolon .*; separate them by commas/,
  ],
  [{ DATA_DIR: '~/data' }, /DATA_DIR: "~\/data" .*give a path as it is/],
  [{ DATA_DIR: '$HOME/data' }, /DATA_DIR: "\$HOME\/data" .*give a path as it is/],
  [{ DATA_DIR: '"/srv/data"' }, /DATA_DIR: .*give a path .*It stands in quotes/],
  [{ DATA_DIR: ' ' }, /DATA_DIR: " " .*give a path as it is/],
  [{ PORT: '70000' }, /PORT: "70000" .*from 0 to 65535/],
  [{ PORT: 'http' }, /PORT: "http" .*a whole number/],
  [{ HOST: 'my host' }, /HOST: "my host" .*give an address/],
  [{ HEARTBEAT_INTERVAL_S: '5m' }, /HEARTBEAT_INTERVAL_S: "5m" .*whole number of seconds/],
  [{ APK_MAX_BYTES: '200MB' }, /APK_MAX_BYTES: "200MB" .*whole number of bytes/],
  [{ FCM_TTL_S: '2419201' }, /FCM_TTL_S: "2419201" .*to 2419200/],
  [{ REQUIRE_HTTPS: 'yes' }, /REQUIRE_HTTPS: "yes" .*give true or false/],
  [{ LOG_LEVEL: 'debug' }, /LOG_LEVEL: "debug" .*is DEBUG meant/],
  [{ ADMIN_TOKENS: `ops:reed=${SECRET}` }, /ADMIN_TOKENS: entry 1 .*"reed" \(is read meant\?\)/],
  [{ ADMIN_TOKENS: SECRET }, /ADMIN_TOKENS: entry 1 is not name/],
  [
    { ADMIN_TOKENS: `a=${SECRET},a=${OTHER}` },
    /ADMIN_TOKENS: entries 1 and 2 .*each needs its own/,
  ],
  [{ ADMIN_TOKENS: 'ops=hunter2-hunter2' }, /ADMIN_TOKENS: .*fewer than 24 .*openssl rand/],
  [{ HMAC_SECRET: 'hunter2-hunter2-hunter2-hunter2' }, /HMAC_SECRET: .*guessable.*openssl rand/],
  [
    { HMAC_SECRET_FILE: '/run/secrets/none' },
    /HMAC_SECRET: both HMAC_SECRET and HMAC_SECRET_FILE are given; unset/,
  ],
  [
    { HMAC_SECRET: '', HMAC_SECRET_FILE: '/run/none' },
    /HMAC_SECRET: .*"\/run\/none".*ENOENT.*give the path/,
  ],
  [
    { HMAC_SECRET: '', HMAC_SECRET_FILE: file('empty', '\n') },
    /HMAC_SECRET: .*which is empty; give the path/,
  ],
  [{ HMAC_SECRET: '', HMAC_SECRET_FILE: directory }, /HMAC_SECRET: .*EISDIR.*give the path/],
  [{ TRUSTED_PROXIES: '10.0.0.0/33' }, /TRUSTED_PROXIES: "10.0.0.0\/33": give CIDRs, such as/],
  [{ FCM_BASE_URL: 'http://fcm.example' }, /FCM_BASE_URL: "http:\/\/fcm.example" .*give an https/],
  [{ COMMAND_ACTIONS: 'Ping' }, /COMMAND_ACTIONS: "Ping": give names that match/],
  [{ SHUTDOWN_DRAIN_MS: '20000' }, /SHUTDOWN_DRAIN_MS: give less than SHUTDOWN_GRACE_MS/],
  [
    { GOOGLE_APPLICATION_CREDENTIALS: '/run/fcm.json' },
    /GOOGLE_APPLICATION_CREDENTIALS: it names "\/run\/fcm.json".*ENOENT.*give the path/,
  ],
  [
    { GOOGLE_APPLICATION_CREDENTIALS: file('key.pem', '-----BEGIN') },
    /GOOGLE_APPLICATION_CREDENTIALS: .*no JSON object; give the JSON key file/,
  ],
  [
    { FIREBASE_SERVICE_ACCOUNT_JSON: '{"client_email":"a@b","private_key":"x"}' },
    /FIREBASE_SERVICE_ACCOUNT_JSON: project_id of it missing.*give the JSON/,
  ],
  [
    {
      FIREBASE_SERVICE_ACCOUNT_JSON:
        '{"project_id":"p","client_email":"a@b","private_key":"hunter2"}',
    },
    /FIREBASE_SERVICE_ACCOUNT_JSON: its private_key is no RSA key in PEM; give/,
  ],
]

async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items]
  while (left.length > 0) await Promise.all(left.splice(0, AT_ONCE).map(work))
}

t.test('each bad setting is one line that names it and the cure', async (t) => {
  const told = (line: RegExp) => new RegExp(`^The configuration cannot be used: ${line.source}.*$`)
  for (const [change, line] of BAD) {
    const parsed = () => parseConfig({ ...WHOLE, ...change }, (path) => readFileSync(path, 'utf8'))
    t.throws(parsed, { name: 'ConfigError', message: told(line) }, Object.keys(change).join())
  }
  // A process takes a quarter of a second; what it adds to the text is the same for all of them.
  await inTurns(BAD.slice(0, 25), async ([change, line]) => {
    const { code, stdout, stderr } = await run({ ...WHOLE, ...change })
    const what = Object.keys(change).join()
    t.equal(code, 78, what)
    t.match(stderr.replace(/\n$/, ''), told(line), what)
    t.notMatch(stderr, new RegExp(`hunter|${SECRET}|${OTHER}`), 'no secret in it')
    t.equal(stdout, '')
  })
})

t.test(
  'a DATA_DIR that cannot hold the made-up secrets, or the database, is refused',
  async (t) => {
    const taken = file('no-directory', '')
    const given = { ADMIN_TOKENS: WHOLE.ADMIN_TOKENS, HMAC_SECRET: WHOLE.HMAC_SECRET }
    for (const env of [{}, given]) {
      const { code, stderr } = await run({ ...env, DATA_DIR: join(taken, 'data') })
      t.equal(code, 78)
      t.match(stderr, /DATA_DIR.*no-directory.* \(.*ENOTDIR.*\): .*give another directory/)
      t.notMatch(stderr, /\n +at /)
    }
    if (!existsSync('/proc/self')) return t.comment('no /proc here')
    for (const dir of ['/proc/fleetloop', '/proc/self', '/proc/fleetloop/data']) {
      const { code, stderr } = await run({ DATA_DIR: dir })
      t.equal(code, 78, dir)
      t.match(stderr, /^The configuration cannot be used: DATA_DIR: .*ENOENT.*: give another .*\n$/)
    }
  },
)

t.test('arguments are answered or refused, and start nothing', async (t) => {
  const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8'))
  t.same(await run({}, '--version'), { code: 0, stdout: `${version}\n`, stderr: '' })
  const help = await run({}, '--help')
  t.match(help, {
    code: 0,
    stderr: '',
    stdout: /usage: node dist\/main.js .*\n[\s\S]*DATABASE_URL[\s\S]*78/,
  })
  await inTurns(
    [['--verison'], ['--port', '80'], ['-h'], ['start'], ['--help', '--version'], ['']],
    async (args) => {
      const { code, stdout, stderr } = await run(WHOLE, ...args)
      t.equal(code, 64, args.join(' '))
      t.equal(stdout, '')
      t.match(stderr, /is no argument here.*\nusage: node dist\/main.js \[--help \| --version\]/)
    },
  )
  t.match((await run({}, '--verison')).stderr, 'Is --version meant?')
})

t.test('an argument is named as it stands, and cut after sixty characters', async (t) => {
  const named = (...args: readonly string[]) => {
    const parsed = parseArguments(args, () => '1.2.3')
    return parsed.kind === 'invalid' && parsed.text.split('\n')[0]
  }
  t.equal(named('--port', '80'), '"--port" is no argument here.')
  t.equal(named('--help', 'a\n"'), '"a\\n\\"" is no argument here.')
  t.equal(named('--help', '--version'), '"--help" is no argument here.')
  const long = `<${'x'.repeat(58)}>`
  for (const more of ['', '.', 'y'.repeat(1_000)]) {
    t.equal(named(`${long}${more}`), `"${long}" is no argument here.`)
  }
})
