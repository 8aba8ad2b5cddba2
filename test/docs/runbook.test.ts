/** The runbook says what the code says, and each of its commands that is marked to be run works. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { DRILLS } from '../../drills/index.ts'
import { makeApk } from '../../sim/apk.ts'
import { CONFIG_VARIABLES, parseConfig } from '../../src/config.ts'
import { STATUS } from '../../src/http/errors.ts'
import { EVENTS } from '../../src/telemetry/events.ts'
import { readCluster, urlOf } from '../helpers/cluster.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { blocksOf, codesOf, sectionOf, tableOf } from '../helpers/markdown.ts'
import { liveANight } from '../helpers/night.ts'
import { ADMIN, MAIN, type Running, startService } from '../helpers/service.ts'
import { normalizer } from '../helpers/volatile.ts'

const ROOT = dirname(fileURLToPath(import.meta.resolve('#package.json')))
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const RUNBOOK = read('RUNBOOK.md')
const missing = ['bash', 'curl', 'jq'].filter((tool) => spawnSync(tool, ['--version']).error)

t.test('the table of events is the vocabulary', async (t) => {
  const table = tableOf(sectionOf(RUNBOOK, 'Events')).map(([event = '', level, fields = '']) => ({
    event: codesOf(event)[0],
    levels: level?.split(', '),
    fields: codesOf(fields),
  }))
  const vocabulary = Object.entries(EVENTS).map(([event, shape]) => ({
    event,
    levels: [...shape.levels],
    fields: Object.keys(shape.fields),
  }))
  t.same(table, vocabulary)
})

t.test('each bound stands in the code with that size', async (t) => {
  const rows = tableOf(sectionOf(RUNBOOK, 'Bounds'))
  t.ok(rows.length > 40)
  for (const [what, size = '', where = ''] of rows) {
    const [code = ''] = codesOf(size)
    const [path = ''] = codesOf(where)
    // To the end of the number: `= 1` is not `= 10`.
    const pattern = new RegExp(`${escaped(code)}(?![\\w*. ]*\\d)`)
    t.ok(pattern.test(read(path)), `${what}: ${code} in ${path}`)
  }
})

t.test('the states of the sender are those that the code names, in its words', async (t) => {
  const section = sectionOf(RUNBOOK, 'States of the sender')
  const plain = (text: string) =>
    text.replace(/\n \*/g, ' ').replaceAll('`', '').replace(/\s+/g, ' ')
  for (const [file, table] of [
    ['dispatcher', section],
    ['send-limit', section.slice(section.indexOf('Slots'))],
  ] as const) {
    const comment = read(`src/push/${file}.ts`).replace(/\*\/[\s\S]*/, '')
    const rows = tableOf(table)
    const names = [...comment.matchAll(/^ \* {3}(\w+) {2,}/gm)].map(([, name = '']) => name)
    t.same(
      rows.map(([name = '']) => codesOf(name)[0]),
      names,
    )
    for (const [name, text] of rows) {
      const words = `${name} ${text}`.replaceAll('→', '->').replace('(below)', '(send-limit.ts)')
      t.ok(plain(comment).includes(plain(words)), `${file}: ${words}`)
    }
  }
})

t.test('each drill and bench is named, with what it proves and how long it takes', async (t) => {
  const { scripts } = JSON.parse(read('package.json'))
  const benches = Object.keys(scripts).filter((name) => name.startsWith('bench:'))
  const long = [...benches, ...DRILLS.map(({ name }) => `drill -- ${name}`)]
  const rows = tableOf(sectionOf(RUNBOOK, 'Drills'))
  const named = rows.map(([command = '']) => codesOf(command)[0])
  t.same(named.toSorted(), long.map((name) => `npm run ${name}`).toSorted())
  for (const [command = '', what = '', takes = ''] of rows) {
    t.match({ what, takes }, { what: /\w/, takes: /^\d+ min$/ }, command)
  }
})

t.test('npm run drill names what it can do, and refuses what it cannot', async (t) => {
  const main = join(ROOT, 'build/drills/main.js')
  const drill = (...args: string[]) =>
    spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' })
  const none = drill()
  t.equal(none.status, 64)
  for (const { name, promise } of DRILLS)
    t.ok(none.stderr.includes(`${name.padEnd(18)} ${promise}`))
  const wrong = drill('r5', '--kills', 'many')
  t.match(wrong, { status: 64, stderr: /--kills is a number from 0, not "many"/ })
})

t.test('each code is explained, and what to do about it', async (t) => {
  const rows = ['Each 4xx', 'Each 5xx'].flatMap((title) => tableOf(sectionOf(RUNBOOK, title)))
  t.same(
    rows.map(([code]) => code),
    Object.entries(STATUS).map(([code, status]) => `${status} \`${code}\``),
  )
  for (const [code = '', means = '', act = ''] of rows)
    t.match({ means, act }, { means: /\w/, act: /\w/ }, code)
})

t.test('of each event that may be WARN or ERROR it is said what to do', async (t) => {
  const [, advice = ''] = sectionOf(RUNBOOK, 'Events').split('What to do about those')
  const rows = tableOf(advice)
  const bad = Object.entries(EVENTS).filter(([, { levels }]) =>
    levels.some((level) => level === 'WARN' || level === 'ERROR'),
  )
  t.same(
    rows.map(([event = '']) => codesOf(event)[0]),
    bad.map(([event]) => event),
  )
  for (const [event = '', act = ''] of rows) t.match(act, /\w/, event)
})

t.test('settings without effect are named, and no others', async (t) => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !/^config[\w-]*\.ts$/.test(path))
    .map((path) => read(join('src', path)))
    .join('\n')
  const unused = Object.keys(parseConfig({}, () => ''))
    .filter((key) => !new RegExp(`\\b${key}\\b`).test(sources))
    .map((key) => key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase())
  const sentence = /^Read but without effect in this release: .*$/m.exec(RUNBOOK)?.[0] ?? ''
  t.same(codesOf(sentence).toSorted(), unused.toSorted())
  for (const name of codesOf(sentence)) t.ok(CONFIG_VARIABLES.includes(name), name)
})

t.test('links lead somewhere', async (t) => {
  const anchors = [...RUNBOOK.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  )
  for (const [, target = ''] of RUNBOOK.matchAll(/\]\(([^)]+)\)/g)) {
    if (target.startsWith('#')) t.ok(anchors.includes(target.slice(1)), target)
    else t.ok(read(target.replace(/#.*/, '')) !== '', target)
  }
})

t.test('the table of metrics is what a scrape shows', async (t) => {
  const { service } = await liveANight(t)
  const { text } = await service.call('GET', '/metrics')
  const families = [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', type = '']) => ({
    name,
    type,
    labels: labelsOf(text, name),
  }))
  const table = tableOf(sectionOf(RUNBOOK, 'Metrics')).map(([name = '', type, labels = '']) => ({
    name: codesOf(name)[0],
    type,
    labels: codesOf(labels),
  }))
  t.same(table, families)
})

t.test(
  'each command that is marked to be run works',
  { skip: missing.length > 0 && `needs ${missing.join(', ')}` },
  async (t) => {
    const { service, deviceId } = await liveANight(t)
    const db = await connect(t, service.databaseUrl)
    const log = join(service.dataDir, 'fleetloop.log')
    writeFileSync(log, `${service.lines.raw.join('\n')}\n`)
    writeFileSync(join(service.dataDir, 'app.apk'), makeApk({ seed: 'app' }))
    symlinkSync(dirname(MAIN), join(service.dataDir, 'dist'))
    const { PATH } = process.env
    const env = {
      PATH,
      URL: service.origin,
      ADMIN,
      LOG: log,
      ID: 'ring-1',
      ALIAS: 'D01',
      DEVICE: deviceId,
    }
    const bash = (text: string) => {
      const input = `set -o pipefail\n${text}`
      const options = { input, env, cwd: service.dataDir, encoding: 'utf8' } as const
      return spawnSync('bash', options)
    }
    const [setUp] = blocksOf(RUNBOOK)
    const [setDevice = ''] = /^DEVICE=.*$/m.exec(setUp?.text ?? '') ?? []
    t.equal(bash(`${setDevice}\necho "$DEVICE"`).stdout.trim(), deviceId, setDevice)
    const blocks = blocksOf(RUNBOOK)
    const marked = blocks.filter((block) => block.rest.startsWith('run'))
    t.ok(marked.length > 25)
    for (const block of marked) {
      const { language, rest, text, line } = block
      const expected = /^run prints (.+)$/.exec(rest)?.[1]
      if (expected === undefined) throw new Error(`RUNBOOK.md:${line}: run prints what?`)
      const title = `RUNBOOK.md:${line} prints ${expected}`
      if (language === 'sql') {
        t.match(JSON.stringify((await db.query(text)).rows), expected, title)
        continue
      }
      const { status, stdout, stderr } = bash(text)
      t.same({ status, stderr }, { status: 0, stderr: '' }, `${title}, and nothing else`)
      t.match(stdout, expected, title)
      const shown = blocks[blocks.indexOf(block) + 1]
      if (shown?.rest === 'shown') t.equal(normalizer()(stdout), normalizer()(shown.text), title)
    }
    // The push token that was given back was tried again.
    await service.lines.atLeast(2, 'push.token_dead')
  },
)

t.test(
  'a backup is taken and restored as it stands there',
  { skip: await noBackup() },
  async (t) => {
    const before = await startService(t)
    const { token } = await before.enroll('D01')
    const beat = (service: Running, of: string) =>
      service.call('POST', '/v1/heartbeat', { token: of, body: {} })
    await before.call('POST', '/admin/command', {
      body: { alias: 'D01', action: 'ring', request_id: 'ring-1' },
    })
    const inDatabase = (name: string, databaseUrl: string) => {
      const { text = '' } = blocksOf(RUNBOOK).find(({ rest }) => rest === name) ?? {}
      const env = { PATH: process.env['PATH'], DATABASE_URL: databaseUrl }
      const bash = spawnSync('bash', { input: text, env, cwd: before.dataDir, encoding: 'utf8' })
      t.match(bash, { status: 0, stdout: '', stderr: '' }, text)
    }
    inDatabase('backup', before.databaseUrl)
    const later = await before.enroll('D02')
    t.equal((await beat(before, token)).body.commands.length, 1)
    const result = { token, body: { request_id: 'ring-1', outcome: 'success' } }
    t.equal((await before.call('POST', '/v1/action-result', result)).status, 200)
    t.equal(await before.stop(), 0)

    const databaseUrl = await createDatabase(t, urlOf(readCluster(), 'template0'))
    inDatabase('restore', databaseUrl)
    const restored = await startService(t, { databaseUrl })
    t.match(await beat(restored, later.token), { status: 503, body: { code: 'not_provisioned' } })
    const { body } = await beat(restored, token)
    t.match(body.commands, [{ request_id: 'ring-1' }], 'a result after the backup: open again')
    const again = await restored.call('POST', '/v1/action-result', result)
    t.match(again, { status: 200, body: { duplicate: false } })
  },
)

/** pg_dump reads its own version's servers and older ones: Debian's does not read the embedded one. */
async function noBackup(): Promise<string | false> {
  const { stdout, error } = spawnSync('pg_dump', ['--version'], { encoding: 'utf8' })
  const db = await connect(t, readCluster().url)
  const { rows } = await db.query<{ major: number }>(
    `select current_setting('server_version_num')::int / 10000 as major`,
  )
  const major = rows[0]?.major ?? 0
  const ours = error === undefined ? Number(/ (\d+)/.exec(stdout)?.[1]) : 0
  return ours < major && `pg_dump ${ours || 'is missing'}: PostgreSQL ${major} cannot be read`
}

/** Of the first sample of a family, without `le`. */
function labelsOf(text: string, family: string): readonly string[] {
  const sample = new RegExp(`^${family}(?:_bucket)?\\{(.*)\\} `, 'm').exec(text)?.[1] ?? ''
  return [...sample.matchAll(/(\w+)="/g)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'le')
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
