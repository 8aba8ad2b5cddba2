/** SECURITY.md is true: it names every credential with exactly what it opens, every secret setting, and places that exist. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { CONFIG_VARIABLES } from '../../src/config/config.ts'
import { ADMIN_SCOPES, type AdminScope } from '../../src/domain/identity.ts'
import { STATUS } from '../../src/http/errors.ts'
import type { GuardName, RouteShape } from '../../src/http/route.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import { PAGES } from '../helpers/pages.ts'
import { codesOf, sectionOf, tableOf } from './markdown.ts'

const ROOT = fileURLToPath(new URL('.', import.meta.resolve('#package.json')))
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const TEXT = read('SECURITY.md')
const HOLDERS = tableOf(sectionOf(TEXT, 'Who can do what'))
const KEPT = tableOf(sectionOf(TEXT, 'How each secret is kept and changed'))
const SECRET_SETTING = /^(?:ADMIN_TOKENS|\w*(?:_SECRET|DATABASE_URL|_CREDENTIALS|_JSON))$/

/** The routes that a row says are opened. */
function openedBy(holder: string): readonly string[] {
  const [row, ...more] = HOLDERS.filter(([name]) => name === holder)
  if (row === undefined || more.length > 0) throw new Error(`there is no one row of ${holder}`)
  return codesOf(row[1] ?? '').toSorted()
}

const namesOf = (routes: readonly RouteShape[]) =>
  routes.map(({ method, path }) => `${method} ${path}`).toSorted()
const guardedBy = (...guards: readonly GuardName[]) =>
  namesOf(ROUTE_LIST.filter(({ guard }) => guards.includes(guard)))

/** As security/guard.ts has it: a download takes the scope `apk`. */
function scopesOf(route: RouteShape): readonly AdminScope[] {
  return route.guard === 'downloader' ? ['apk'] : route.guard === 'admin' ? route.scopes : []
}

t.test('each credential opens what its row says, no route more or less', async (t) => {
  t.same(openedBy('nothing'), guardedBy('open'))
  t.same(openedBy('an enrollment token'), guardedBy('enrollment-token', 'downloader'))
  t.same(openedBy('a device token'), guardedBy('device', 'device-token', 'downloader'))
  for (const scope of ADMIN_SCOPES) {
    const isTheirs = (route: RouteShape) =>
      scope === 'admin'
        ? String(scopesOf(route)) === 'admin' // theirs alone
        : scopesOf(route).includes(scope)
    t.same(openedBy(`admin, scope \`${scope}\``), namesOf(ROUTE_LIST.filter(isTheirs)), scope)
  }
})

t.test('each secret setting stands there, with how it is kept and changed', async (t) => {
  const secret = CONFIG_VARIABLES.filter((name) => SECRET_SETTING.test(name))
  const named = KEPT.flatMap(([what = '']) => codesOf(what)).filter((name) => /^[A-Z]/.test(name))
  t.same(named.toSorted(), secret.toSorted())
  for (const [what = '', ...told] of KEPT) t.ok(told.length === 2 && told.every(Boolean), what)
})

t.test(
  'no recipe gives a secret as an argument, which every user of the machine can read',
  async (t) => {
    for (const file of PAGES) {
      const found = read(file).match(
        /-H ["']Authorization.*|-hmac .*|(psql|pg_dump|pg_restore).*\$DATABASE_URL.*|-e \w*(TOKEN|SECRET|PASSWORD)\w*=.*|--(token|password)[ =].*/g,
      )
      t.equal(found, null, file)
    }
  },
)

t.test('settings, columns, codes, tests and links that it names are there', async (t) => {
  const sql = readdirSync(join(ROOT, 'sql')).map((file) => read(join('sql', file)))
  const { scripts } = JSON.parse(read('package.json'))
  for (const code of codesOf(TEXT)) {
    const setting = /^([A-Z]+_[A-Z_]+)(?:=\w+)?$/.exec(code)?.[1]
    const [, table, column] = /^([a-z_]+)\.([a-z_]+)$/.exec(code) ?? []
    const script = /^npm run (\S+)/.exec(code)?.[1]
    if (setting !== undefined) t.ok(CONFIG_VARIABLES.includes(setting), code)
    if (script !== undefined) t.ok(script in scripts, code)
    if (code.endsWith('.ts')) t.ok(read(code) !== '', code)
    if (column !== undefined) {
      const made = new RegExp(`table ${table}\\b[^;]*\\b${column} (?:text|bytea|integer)`)
      t.ok(
        sql.some((text) => made.test(text)),
        code,
      )
    }
  }
  const statuses: Readonly<Record<string, number>> = STATUS
  for (const [, status, code = ''] of TEXT.matchAll(/\b([45]\d\d) `([a-z_]+)`/g)) {
    t.equal(statuses[code], Number(status), code)
  }
  for (const [, path = '', anchor] of TEXT.matchAll(/\]\(([^)#]+)#?([^)]*)\)/g)) {
    const titles = [...read(path).matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => title)
    const anchors = titles.map((title) => title.toLowerCase().replaceAll(' ', '-'))
    t.ok(anchor === '' || anchors.includes(anchor ?? ''), `${path}#${anchor}`)
  }
  t.match(read('README.md'), '](SECURITY.md)')
})

t.test('each limit has the size of its row in bounds.md, which is that of the code', async (t) => {
  const bounds = read('docs/reference/bounds.md')
  for (const [sentence, size] of [
    ['At most three requests of a connection are open at once', '`MAX_OPEN_EXCHANGES = 3`'],
    ['32 connections may pipeline more', '`MAX_METERED = 32`'],
    ['when 128 of these wait and another one comes', '`MAX_REFUSED_WAITING = 128`'],
    ['holds at most half of all connections', '`ADDRESS_SHARE = 1 / 2`'],
    ['reads at most 16 MiB a second for all connections', '`ALL_LINGER_BYTES = 16 * 1024 * 1024`'],
    ['with a pause whenever that has taken 2 ms', '`CLOSING_MS = 2`'],
    ['on a separate connection, at most 20 times a second', '`GROUP_PAUSE_MS` (50 ms)'],
    ['with more than 1,536 names and values', '`MANY_SIGNS = 1_536`'],
    ['an object or array counts four times', '`OPENING` (4)'],
    ['with pauses of up to a second', '`MAX_PAUSE_MS = 1_000` | `src/http/body'],
    ['Of one token at most four complex bodies wait, and 32 in all', '`MAX_WAITING_OF_KEY = 4`'],
    ['Four requests of one device token are served at once', '`MAX_AT_ONCE = 4`'],
    ['wait in order for two seconds', '`MAX_TURN_WAIT_MS = 2_000`'],
    ['for ten seconds after the last one', '`DEAD_TOKEN_MS = 10_000`'],
    ['At most ten changes of its push identity an hour', '`TOKEN_CHANGES_PER_HOUR = 10`'],
    ['at most half of the general database connections', '`READ_SHARE = 1 / 2`'],
    ['16 KiB/s over a minute', '`MIN_BYTES_PER_S = 16 * 1024`'],
    ['50 lines a second for each code', '`MAX_ANONYMOUS_PER_S = 50`'],
  ] as const) {
    t.ok(TEXT.includes(sentence), sentence)
    t.ok(bounds.includes(size), size)
  }
})
