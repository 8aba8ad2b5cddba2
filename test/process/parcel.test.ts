/** What `npm pack` makes is complete and nothing else, and runs as a container would have it. */

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import {
  copyProject,
  missingTools,
  playTour,
  ROOT,
  readersEnv,
  startToured,
} from '../docs/commands/tour.ts'
import { blocksOf } from '../docs/markdown.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { readPage } from '../helpers/pages.ts'
import { ADMIN, HMAC_SECRET } from '../helpers/service.ts'
import { type Container, makeContainer, noContainer } from './container.ts'

const PAPERS = [
  '.env.example',
  'CHANGELOG.md',
  'LICENSE',
  'README.md',
  'RUNBOOK.md',
  'SECURITY.md',
  'deploy',
  'docs',
  'openapi.json',
  'package-lock.json',
]

/** Of the project that is built again and again. */
const SOURCES = 20

/** Beside `name` itself, as `tar -t` names them. */
function filesUnder(directory: string, name: string): readonly string[] {
  return readdirSync(join(directory, name), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
}

/** By `npm pack` in a copy of the project; answers the path of the archive. */
function pack(directory: string): string {
  const options = { cwd: directory, env: readersEnv(), encoding: 'utf8' } as const
  const { status, stdout, stderr } = spawnSync('npm', ['pack', '--silent'], options)
  if (status !== 0) throw new Error(`npm pack: ${stderr}`)
  return join(directory, stdout.trim())
}

/** Unpacked, with what `npm ci --omit=dev` would install by its lock, taken from ours. */
function install(archive: string, tree: string): void {
  spawnSync('tar', ['-xzf', archive, '-C', tree, '--strip-components=1'])
  const { packages } = JSON.parse(readFileSync(join(tree, 'npm-shrinkwrap.json'), 'utf8'))
  for (const [path, { dev }] of Object.entries<{ dev?: boolean }>(packages)) {
    if (path !== '' && dev !== true) {
      cpSync(join(ROOT, path), join(tree, path), { recursive: true, dereference: true })
    }
  }
}

const directory = copyProject(t, PAPERS)
const archive = pack(directory)

t.test('the parcel holds what is needed and nothing else', async (t) => {
  const listed = spawnSync('tar', ['-tzf', archive], { encoding: 'utf8' }).stdout.trim().split('\n')
  const compiled = filesUnder(directory, 'src').flatMap((path) => {
    const out = path.replace(/^src/, 'dist').replace(/\.ts$/, '.js')
    return [out, `${out}.map`]
  })
  const expected = [
    ...compiled,
    ...['dist/cli.js', 'dist/why.js'], // scripts/build.mjs: the paths that operators type
    ...PAPERS.filter((name) => name.includes('.') && name !== 'package-lock.json'),
    ...['LICENSE', 'npm-shrinkwrap.json', 'package.json'],
    ...['deploy', 'docs', 'sql'].flatMap((name) => filesUnder(directory, name)),
  ]
  t.same(listed.map((path) => path.replace(/^package\//, '')).toSorted(), expected.toSorted())
  t.match(archive, /\/fleetloop-\d+\.\d+\.\d+\.tgz$/)
  t.notOk(readdirSync(directory).includes('npm-shrinkwrap.json'), 'no second lock stays behind')
})

t.test('the documented commands for systemd put it where the unit looks for it', async (t) => {
  const root = tempDirectory(t)
  for (const path of ['opt', 'etc/systemd/system', 'bin']) {
    mkdirSync(join(root, path), { recursive: true })
  }
  // What would change this machine only tells what it was asked for.
  for (const tool of ['npm', 'systemctl']) {
    const script = `#!/bin/sh\necho "${tool} $*" >> '${root}/asked'\n`
    writeFileSync(join(root, 'bin', tool), script, { mode: 0o755 })
  }
  writeFileSync(join(directory, 'fleetloop.env'), 'PORT=8080\n')
  const typed = blocksOf(readPage('docs/operate/install.md')).filter(({ text }) =>
    text.startsWith('sudo '),
  )
  t.equal(typed.length, 2)
  const input = typed.map(({ text }) => text).join('')
  const here = input.replaceAll('sudo ', '').replaceAll(/(?<= )\/(?=opt|etc)/g, `${root}/`)
  const env = readersEnv({ PATH: `${join(root, 'bin')}:${process.env['PATH']}` })
  const bash = spawnSync('bash', {
    input: `set -e\n${here}`,
    cwd: directory,
    env,
    encoding: 'utf8',
  })
  t.match(bash, { status: 0, stderr: '' })

  const read = (path: string) => readFileSync(join(root, path), 'utf8')
  t.same(read('asked').trim().split('\n'), [
    'npm ci --omit=dev',
    'systemctl daemon-reload',
    'systemctl enable fleetloop',
    'systemctl restart fleetloop',
  ])
  const unit = read('etc/systemd/system/fleetloop.service')
  t.equal(unit, readFileSync(join(ROOT, 'deploy/fleetloop.service'), 'utf8'))
  const main = /^ExecStart=\S+ .* \/(\S+)$/m.exec(unit)?.[1] ?? ''
  t.ok(statSync(join(root, main)).isFile(), main)
  t.equal(statSync(join(root, 'etc/fleetloop.env')).mode & 0o777, 0o600)
})

/** Inside, to its end. */
function runInside({ enter }: Container, words: readonly string[], env: Record<string, string>) {
  const [command = '', ...args] = enter
  return spawnSync(command, [...args, ...words], { env: readersEnv(env), encoding: 'utf8' })
}

t.test(
  'a container runs it: not root, all read-only but one volume',
  { skip: noContainer() || missingTools },
  async (t) => {
    const container = await makeContainer(t)
    const { tree, volume, databaseUrl, uid, enter } = container
    install(archive, tree)
    const tried = ['/', '/etc', '/tmp', '/var/tmp', '/dev/shm', tree, join(tree, 'dist'), volume]
    const write = 'for at do touch "$at/written" 2>/dev/null && echo "$at"; done; true'
    const { stdout } = runInside(container, ['sh', '-c', write, 'sh', ...tried], {})
    t.equal(stdout, `${volume}\n`, 'the volume alone can be written to')

    const service = await startInside(t, enter, {
      NODE_ENV: 'production',
      HOST: '127.0.0.1',
      DATA_DIR: volume,
      DATABASE_URL: databaseUrl,
      ADMIN_TOKENS: `local=${ADMIN}`,
      HMAC_SECRET,
      SHUTDOWN_DRAIN_MS: '0',
    })
    const status = readFileSync(`/proc/${service.pid}/status`, 'utf8')
    t.match(status, new RegExp(`^Uid:\t${uid}\t${uid}\t`, 'm'))
    t.not(uid, 0)
    t.match(status, /^CapEff:\t0+$/m)
    t.match(status, /^CapBnd:\t0+$/m)

    playTour(t, directory, service.origin)

    const api = { FLEETLOOP_URL: service.origin, FLEETLOOP_TOKEN: ADMIN }
    const why = runInside(container, ['node', 'dist/why.js', 'D01'], api)
    t.match(why, { status: 0, stderr: '', stdout: /^phone D01 / })
    const check = healthcheck()
    const { port } = new URL(service.origin)
    t.equal(runInside(container, check, { PORT: port }).status, 0, 'its health check passes')
    t.equal(runInside(container, check, { PORT: '1' }).status, 1, 'and fails where nobody listens')

    t.equal(await service.interrupt(), 0)
  },
)

/** The tour's second terminal reads its token and its log in `directory`. */
function startInside(t: Test, enter: readonly string[], env: Record<string, string>) {
  mkdirSync(join(directory, 'data'), { recursive: true })
  writeFileSync(join(directory, 'data/admin-token'), ADMIN)
  const quoted = enter.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
  const script = `exec ${quoted} node --enable-source-maps dist/main.js > fleetloop.log`
  return startToured(t, directory, script, env)
}

/** The words of the image's own. */
function healthcheck(): readonly string[] {
  const text = readFileSync(join(ROOT, 'Dockerfile'), 'utf8')
  return JSON.parse(/^HEALTHCHECK [^[]*CMD (\[.*\])$/m.exec(text)?.[1] ?? '')
}

t.test('a build leaves what runs from there alone', async (t) => {
  const copied = copyProject(t)
  const project = `${copied} with spaces`
  renameSync(copied, project)
  t.teardown(() => rmSync(project, { recursive: true, force: true }))
  const options = { cwd: project, env: readersEnv() }
  const begin = () => {
    const npm = spawn('npm', ['run', '-s', 'build'], { ...options, stdio: 'ignore' })
    return once(npm, 'exit').then(([code]) => code as number | null)
  }
  /** An inode of a file that is gone is given to the next one: with it the time of the writing. */
  const writings = () =>
    new Map(
      filesUnder(project, 'dist').map((file) => {
        const { ino, mtimeNs } = statSync(join(project, file), { bigint: true })
        return [file, `${ino} ${mtimeNs}`] as const
      }),
    )
  const src = (name: string) => join(project, 'src', name)
  // Few and small: it is the build that is judged.
  rmSync(src(''), { recursive: true })
  mkdirSync(src('cli'), { recursive: true })
  writeFileSync(src('cli/why.ts'), 'export const why = 1\n')
  for (let n = 0; n < SOURCES; n++) writeFileSync(src(`part-${n}.ts`), `export const n = ${n}\n`)
  writeFileSync(src('main.ts'), "import './cli/why.ts'\n")
  t.equal(await begin(), 0)
  const first = writings()
  t.equal(await begin(), 0)
  t.same(writings(), first, 'made from the same: nothing is touched')

  writeFileSync(src('planted.ts'), 'export const planted = 1\n')
  appendFileSync(src('cli/why.ts'), '\n// changed\n')
  let isOver = false
  const both = Promise.all([begin(), begin()]).finally(() => {
    isOver = true
  })
  const compiled = [...first.keys()].filter((file) => /\.(js|map)$/.test(file))
  const missing = new Set<string>()
  while (!isOver) {
    for (const file of compiled) if (!existsSync(join(project, file))) missing.add(file)
    await setImmediate()
  }
  t.same(await both, [0, 0], 'of two at once, one waits')
  t.same([...missing], [], 'nothing is missing at any time')
  const second = writings()
  const changed = [...second].filter(([file, writing]) => first.get(file) !== writing)
  t.same(changed.map(([file]) => file).sort(), [
    'dist/.made-from',
    'dist/cli/why.js',
    'dist/cli/why.js.map',
    'dist/planted.js',
    'dist/planted.js.map',
  ])

  rmSync(src('planted.ts'))
  const { pid } = spawnSync('true')
  writeFileSync(join(project, 'dist.lock'), String(pid))
  mkdirSync(join(project, 'dist.new'))
  t.equal(await begin(), 0, 'what a killed build left holds up nobody')
  t.notOk(second.delete('dist/planted.js') && existsSync(join(project, 'dist/planted.js')))

  const third = writings()
  writeFileSync(src('broken.ts'), 'export const broken: number = "no"\n')
  t.not(await begin(), 0)
  t.same(writings(), third, 'what does not compile replaces nothing')
  rmSync(src('broken.ts'))
  rmSync(join(project, 'dist/main.js'))
  t.equal(await begin(), 0)
  t.ok(existsSync(join(project, 'dist/main.js')), 'what somebody removed is made again')
  t.same(
    readdirSync(project).filter((name) => /^dist./.test(name)),
    [],
  )
})
