/** Each command of the runbook and of docs/operate works: most in the course of one night, the others each on a service of its own. */
import { spawnSync } from 'node:child_process'
import { statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import {
  documentedBlock as named,
  operatorBlocks,
  type PageBlock,
  readPage,
} from '../helpers/pages.ts'
import { ADMIN, MAIN, type Running, startService } from '../helpers/service.ts'
import { readCluster, urlOf } from '../runner/cluster.ts'
import { liveANight } from './commands/night.ts'
import { settle, startTaskFleet, TASKS, writeOutputs } from './commands/tasks.ts'
import { normalizer } from './commands/volatile.ts'
import { blocksOf, codesOf, tableOf } from './markdown.ts'

/** Its first block sets the variables that all others use. */
const RUNBOOK = readPage('RUNBOOK.md')
/** Blocks that are run, but not in the course of the night. */
const NAMED = [
  'install-database',
  'pgbouncer-role',
  'signed',
  'forget-withdrawn',
  'backup',
  'restore',
  'end-open',
]
const missing = ['bash', 'curl', 'jq', 'python3'].filter(
  (tool) => spawnSync(tool, ['--version']).error,
)

const { service, deviceId } = await liveANight(t)

t.test('the table of metrics is what a scrape shows', async (t) => {
  const { text } = await service.call('GET', '/metrics')
  const families = [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', type = '']) => ({
    name,
    type,
    labels: labelsOf(text, name),
  }))
  const table = tableOf(readPage('docs/reference/metrics.md')).map(
    ([name = '', type, labels = '']) => ({
      name: codesOf(name)[0],
      type,
      labels: codesOf(labels),
    }),
  )
  t.same(table, families)
})

t.test(
  'each command that is marked to be run works',
  { skip: missing.length > 0 && `needs ${missing.join(', ')}` },
  async (t) => {
    const db = await connect(t, service.databaseUrl)
    const log = join(service.dataDir, 'fleetloop.log')
    writeFileSync(log, `${service.lines.raw.join('\n')}\n`)
    writeFileSync(
      join(service.dataDir, 'app.apk'),
      makeApk({ seed: 'app', versionCode: 42, versionName: '1.7' }),
    )
    const bash = shellOf(service, { LOG: log, ID: 'ring-1', ALIAS: 'D01', DEVICE: deviceId })
    const [setUp] = blocksOf(RUNBOOK)
    const [setDevice = ''] = /^DEVICE=.*$/m.exec(setUp?.text ?? '') ?? []
    t.equal(bash(`${setDevice}\necho "$DEVICE"`).stdout.trim(), deviceId, setDevice)
    const blocks = operatorBlocks().filter(({ path }) => path !== TASKS)
    const marked = blocks.filter((block) => block.rest.startsWith('run'))
    t.ok(marked.length > 25)
    for (const block of marked) {
      const { language, rest, text, line, path } = block
      const expected = /^run prints (.+)$/.exec(rest)?.[1]
      if (expected === undefined) throw new Error(`${path}:${line}: run prints what?`)
      const title = `${path}:${line} prints ${expected}`
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
  'each task prints what the page shows',
  { skip: missing.length > 0 && `needs ${missing.join(', ')}` },
  async (t) => {
    const service = await startTaskFleet(t)
    const db = await connect(t, service.databaseUrl)
    const log = join(service.dataDir, 'fleetloop.log')
    const bash = shellOf(service, { LOG: log, ALIAS: 'D01' })
    const blocks = operatorBlocks().filter(({ path }) => path === TASKS)
    const [shown, printed] = [normalizer(), normalizer()]
    const outputs = new Map<PageBlock, string>()
    for (const [index, { language, rest, text }] of blocks.entries()) {
      if (!rest.startsWith('run prints ')) continue
      await settle(service)
      writeFileSync(log, `${service.lines.raw.join('\n')}\n`)
      if (language === 'sql') {
        t.match((await db.query(text)).rows, [{ is_balanced: true }])
        continue
      }
      const { status, stdout, stderr } = bash(text)
      t.same({ status, stderr }, { status: 0, stderr: '' }, text)
      const sample = blocks[index + 1]
      if (sample?.language !== 'text') throw new Error(`${text} is shown without its output`)
      outputs.set(sample, stdout)
      t.equal(printed(stdout), shown(sample.text), text)
    }
    t.ok(outputs.size >= 20)
    if (process.env['UPDATE_TASKS'] === '1') writeOutputs(service, outputs)
  },
)

t.test('each command is run, but those that install', async (t) => {
  const [, ...commands] = operatorBlocks().filter(({ language }) => /^(sh|sql)$/.test(language))
  // Those of scale.md: scale.test.ts and its drills.
  for (const { rest, line, path } of commands.filter(({ path }) => !/scale\.md$/.test(path))) {
    const isRun = rest.startsWith('run prints ') || NAMED.includes(rest)
    t.ok(isRun || path === 'docs/operate/install.md', `${path}:${line}`)
  }
})

t.test(
  'a signed upload is signed as it stands there, and its bytes can go again',
  { skip: missing.length > 0 && `needs ${missing.join(', ')}` },
  async (t) => {
    const ADMIN_HMAC_SECRET = 'runbook-signing-secret-Qd8vXr2kWz9mBt4sLh7cYp3n'
    const service = await startService(t, { env: { ADMIN_HMAC_SECRET } })
    writeFileSync(join(service.dataDir, 'app.apk'), makeApk())
    const { PATH } = process.env
    const signing = { ADMIN_HMAC_SECRET, APK: 'app.apk' }
    const env = { PATH, URL: service.origin, ...authFiles(service.dataDir), ...signing }
    const options = { input: named('signed'), env, cwd: service.dataDir, encoding: 'utf8' } as const
    t.match(spawnSync('bash', options), { status: 0, stdout: '"build_id":"app-43"' })
    const db = await connect(t, service.databaseUrl)
    await db.query(
      `update apk_builds set withdrawn_at = now() - interval '31 days', withdrawn_by = 'x'`,
    )
    for (const statement of named('forget-withdrawn').split(';\n')) await db.query(statement)
    t.same((await db.query('select from apk_chunks')).rows.length, 0)
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
    for (const request_id of ['ring-1', 'ring-2']) {
      const body = { alias: 'D01', action: 'ring', request_id }
      await before.call('POST', '/admin/command', { body })
    }
    await before.call('PUT', '/admin/apk/builds/b1?version_code=1', { raw: makeApk() })
    const unused = await before.call('POST', '/v1/enroll-tokens', { body: { aliases: ['D03'] } })
    const [enrollment] = unused.body.tokens
    const inDatabase = (name: string, databaseUrl: string) => {
      const text = named(name)
      const env = { PATH: process.env['PATH'], DATABASE: databaseUrl }
      const bash = spawnSync('bash', { input: text, env, cwd: before.dataDir, encoding: 'utf8' })
      t.match(bash, { status: 0, stdout: '', stderr: '' }, text)
    }
    inDatabase('backup', before.databaseUrl)
    const later = await before.enroll('D02')
    t.equal((await beat(before, token)).body.commands.length, 2)
    for (const path of [
      '/admin/commands/ring-2',
      '/admin/apk/builds/b1',
      `/v1/enroll-tokens/${enrollment.token_id}`,
    ]) {
      t.match(await before.call('DELETE', path), { status: /20[04]/ }, path)
    }
    const result = { token, body: { request_id: 'ring-1', outcome: 'success' } }
    t.equal((await before.call('POST', '/v1/action-result', result)).status, 200)
    t.equal(await before.stop(), 0)

    const databaseUrl = await createDatabase(t, urlOf(readCluster(), 'template0'))
    inDatabase('restore', databaseUrl)
    const restored = await startService(t, { databaseUrl })
    t.match(await beat(restored, later.token), { status: 503, body: { code: 'not_provisioned' } })
    const { body } = await beat(restored, token)
    t.match(
      body.commands,
      [{ request_id: 'ring-1' }, { request_id: 'ring-2' }],
      'a result or a cancellation after the backup: open again',
    )
    const again = await restored.call('POST', '/v1/action-result', result)
    t.match(again, { status: 200, body: { duplicate: false } })
    const latest = await restored.call('HEAD', '/v1/apk/download-latest')
    t.equal(latest.headers.get('x-apk-build-id'), 'b1', 'a withdrawal after it: the latest again')
    const revived = { token: enrollment.token, body: {} }
    t.equal((await restored.call('POST', '/v1/register', revived)).status, 201, 'and a revocation')

    const db = await connect(t, databaseUrl)
    await db.query(named('end-open'))
    t.match((await restored.call('GET', '/admin/commands/ring-2')).body, { status: 'expired' })
  },
)

/** A bash of the operator, with the variables of the runbook. */
function shellOf(service: Running, variables: Readonly<Record<string, string>>) {
  symlinkSync(dirname(MAIN), join(service.dataDir, 'dist'))
  const { PATH } = process.env
  const env = { PATH, URL: service.origin, ...authFiles(service.dataDir), ...variables }
  const [setUp] = blocksOf(RUNBOOK)
  const [fleetloop = ''] = /^export FLEETLOOP.* fleetloop\(\) .*$/m.exec(setUp?.text ?? '') ?? []
  return (text: string) => {
    const input = `set -o pipefail\n${fleetloop}\n${text}`
    return spawnSync('bash', { input, env, cwd: service.dataDir, encoding: 'utf8' })
  }
}

/** A token's file, and what the runbook's first block makes of it. */
function authFiles(cwd: string): { readonly TOKEN: string; readonly AUTH: string } {
  const files = { TOKEN: 'token', AUTH: 'auth' }
  writeFileSync(join(cwd, files.TOKEN), ADMIN)
  const [setUp] = blocksOf(RUNBOOK)
  const input = /^\(umask .*\)$/m.exec(setUp?.text ?? '')?.[0] ?? 'false'
  const env = { PATH: process.env['PATH'], ...files }
  t.equal(spawnSync('bash', { input, env, cwd }).status, 0, input)
  t.equal(statSync(join(cwd, files.AUTH)).mode & 0o777, 0o600)
  return files
}

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
