/** docs/operate/scale.md: HAProxy and Patroni start from its very files, and a database moves as it says. Failovers: `npm run drill -- patroni`. */

import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { createCluster, createDatabase } from '../../drills/patroni/cluster.ts'
import { FAULTS } from '../../drills/patroni/faults.ts'
import { loopbackNetwork } from '../../drills/patroni/network.ts'
import { ofMachine, pageFile } from '../../drills/patroni/page.ts'
import { missingPrograms } from '../../drills/patroni/programs.ts'
import { openDirectory, startHaproxy } from '../../drills/patroni/service.ts'
import { startDebianServer } from '../../drills/pitr/debian-server.ts'
import { until } from '../../testkit/until.ts'
import { connect, createDatabase as createEmpty } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { launchService, settings } from '../helpers/service.ts'
import { blocksOf, sectionOf } from './markdown.ts'

const ROOT = dirname(fileURLToPath(import.meta.resolve('#package.json')))
const PATH = 'docs/operate/scale.md'
const PAGE = readFileSync(join(ROOT, PATH), 'utf8')

const AUDITED = `insert into audit_log (what, subject, request_id) values ('test', 'x', 'x') returning audit_id`

t.test('links lead somewhere', async (t) => {
  const links = [...PAGE.matchAll(/\]\(([^)#]*)#?([^)]*)\)/g)]
  t.ok(links.length > 10)
  for (const [, path = '', anchor = ''] of links) {
    const text = path === '' ? PAGE : readFileSync(join(ROOT, dirname(PATH), path), 'utf8')
    const anchors = [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replace(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    )
    t.ok(anchor === '' || anchors.includes(anchor), `${path}#${anchor}`)
  }
})

t.test('the drill that it names has the faults that it names', async (t) => {
  for (const [, names = ''] of PAGE.matchAll(/--faults (\S+)/g)) {
    for (const name of names.split(','))
      t.ok(
        FAULTS.some((fault) => fault.name === name),
        name,
      )
  }
})

t.test("its sed makes another machine's files", async (t) => {
  const block = blocksOf(sectionOf(PAGE, 'Patroni')).find(({ text }) => text.startsWith('sed '))
  const script = /'(.*)'/.exec(block?.text ?? '')?.[1] ?? ''
  for (const file of ['etcd.yml', 'patroni.yml']) {
    const input = pageFile(file)
    const { stdout } = spawnSync('sed', ['-E', script], { input, encoding: 'utf8' })
    t.equal(stdout, ofMachine(input, 2))
    t.not(stdout, input)
  }
})

t.test('HAProxy takes both files', { skip: missingPrograms(['haproxy', 'openssl']) }, async (t) => {
  const directory = temporary(t)
  const pem = join(directory, 'fleetloop.pem')
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const files = ['-subj', '/CN=fleetloop', '-keyout', pem, '-out', `${pem}.crt`]
  t.equal(spawnSync('openssl', [...request, ...files]).status, 0)
  writeFileSync(pem, readFileSync(`${pem}.crt`), { flag: 'a' })
  const [phones = [], database = []] = ['haproxy.cfg', 'haproxy-postgres.cfg'].map((name) => {
    const path = join(directory, name)
    writeFileSync(path, pageFile(name).replace('/etc/haproxy/fleetloop.pem', pem))
    return ['-f', path]
  })
  for (const args of [[...phones, ...database], phones, database]) {
    const { status, stderr } = spawnSync('haproxy', ['-c', ...args], { encoding: 'utf8' })
    t.equal(status, 0, stderr)
    t.notMatch(stderr, /WARNING/)
  }
})

t.test(
  'Patroni makes a primary of its file, and HAProxy leads there',
  { skip: missingPrograms(['etcd', 'haproxy', 'patroni']) },
  async (t) => {
    const dir = temporary(t)
    openDirectory(dir)
    const network = loopbackNetwork(Math.random)
    const cluster = createCluster(dir, network)
    t.teardown(() => cluster.destroy())
    for (const machine of cluster.machines) machine.startEtcd()
    cluster.machines[0]?.startPatroni()
    const leader = await cluster.leader()
    t.equal(leader, cluster.machines[0])
    await createDatabase(cluster.url(leader, 'postgres'), 'fleetloop', 'test-password')
    const haproxy = await startHaproxy({ dir, network, isMultiHost: false })
    t.teardown(() => haproxy.stop())
    const db = await connect(t, `postgres://fleetloop:test-password@${haproxy.back}/fleetloop`)
    const { rows } = await db.query('show data_checksums')
    t.same(rows, [{ data_checksums: 'on' }], 'as the file says')
    const settings = await connect(t, cluster.url(leader, 'postgres'))
    t.match((await settings.query('show wal_sender_timeout')).rows, [{ wal_sender_timeout: '10s' }])
  },
)

t.test(
  'a database moves by logical replication, and its sequences are moved on',
  { skip: missingPrograms([]) },
  async (t) => {
    const dir = temporary(t)
    const old = await startDebianServer(dir, 'old', () => 'wal_level = logical\n')
    t.teardown(old.stop)
    await old.command('createdb', '-h', old.sockets, '-U', 'postgres', 'fleetloop')
    const before = launchService(t, settings(old.url('fleetloop')))
    await before.lines.waitFor(({ event }) => event === 'service.ready')
    const db = await connect(t, old.url('fleetloop'))
    for (let row = 0; row < 5; row += 1) await db.query(AUDITED)
    await db.query(pageFile('logical-publisher'))

    const target = await createEmpty(t, 'postgres://localhost/template0')
    const url = new URL(target)
    const oldLine = `host=${old.sockets} dbname=fleetloop user=postgres`
    const names = { PATH: process.env['PATH'], OLD: oldLine, NEW: target }
    const script = pageFile('logical-schema').replace(
      'set role fleetloop',
      `set role ${url.username}`,
    )
    const copied = spawnSync('sh', ['-euc', script], { env: names, encoding: 'utf8' })
    t.equal(copied.status, 0, copied.stderr)
    const now = await connect(t, target)
    await now.query(pageFile('logical-subscriber').replace("'OLD'", `'${oldLine}'`))
    t.teardown(() => now.query('drop subscription if exists fleetloop').catch(() => {}))
    await until(async () => {
      const { rows } = await now.query(pageFile('logical-copied'))
      return rows[0].tables_left === '0'
    })
    before.signal('SIGTERM')
    await before.ended
    await until(
      async () => Number((await db.query(pageFile('logical-behind'))).rows[0].bytes_behind) <= 0,
    )
    await now.query('drop subscription fleetloop')

    const after = launchService(t, settings(target))
    await after.lines.waitFor(({ event }) => event === 'service.ready')
    const sixth = await now.query(AUDITED) // by a sequence that starts over it would be the first
    const moved = await now.query("select max(audit_id) as last from audit_log where what = 'test'")
    t.same(sixth.rows, [{ audit_id: moved.rows[0].last }])
    t.equal(Number(moved.rows[0].last) > 5, true)
  },
)

function temporary(t: Test): string {
  const directory = tempDirectory(t)
  return directory
}
