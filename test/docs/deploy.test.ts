/**
 * What no test can run here (no container engine, no systemd as process 1) names only what is there, pins what it takes
 * from elsewhere, and says what docs/operate/install.md says. The parcel itself runs in test/process/parcel.test.ts.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { CONFIG_FILE, missingTools } from '../../drills/shared/prometheus.ts'
import { CONFIG_VARIABLES, parseConfig } from '../../src/config/config.ts'
import { START_ARGS } from '../../testkit/service.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { documentedBlock } from '../helpers/pages.ts'
import { writeFiles } from './prometheus-files.ts'

const pathOf = (path: string) => fileURLToPath(new URL(path, import.meta.resolve('#package.json')))
const read = (path: string) => readFileSync(pathOf(path), 'utf8')
const hasNginx = spawnSync('nginx', ['-v']).error === undefined
const hasTool = (tool: string) => spawnSync(tool, ['--version']).error === undefined
const INSTALL = read('docs/operate/install.md')
const DOCKER_RUN = /^docker run .*$/m.exec(INSTALL)?.[0] ?? ''
const { version } = JSON.parse(read('package.json'))
const COMPOSE = read('compose.yaml')
const UNIT = read('deploy/fleetloop.service')
/** A release with the digest of its content: `v3.5.0@sha256:…`. */
const PINNED = /^v?\d+\.\d+(\.\d+)?(-[a-z-]+)?@sha256:[0-9a-f]{64}$/

interface Instruction {
  readonly name: string
  readonly words: readonly string[]
}

/** Instructions of the Dockerfile, comments and line breaks gone. */
const INSTRUCTIONS: readonly Instruction[] = read('Dockerfile')
  .replace(/^#.*\n/gm, '')
  .replaceAll('\\\n', ' ')
  .split('\n')
  .filter((line) => line.trim() !== '')
  .map((line) => line.trim().split(/\s+/))
  .map(([name = '', ...words]) => ({ name, words }))
const all = (name: string) => INSTRUCTIONS.filter((one) => one.name === name)
const last = (name: string) => all(name).at(-1)?.words.join(' ') ?? ''

t.test('the image is built from files that are there, on a pinned Node', async (t) => {
  const sent = read('.dockerignore').match(/(?<=^!).*/gm) ?? []
  const sources = all('COPY')
    .filter(({ words }) => !words[0]?.startsWith('--from'))
    .flatMap(({ words }) => words.slice(0, -1))
    .map((path) => path.replace(/\/$/, ''))
  t.same([...new Set(sources)].toSorted(), sent.toSorted(), 'what is copied is what is sent')
  for (const path of sources) t.ok(existsSync(pathOf(path)), path)
  t.match(last('ARG'), /^NODE=node:/)
  t.match(last('ARG').replace('NODE=node:', ''), PINNED)
  t.ok(all('FROM').length > 1)
  const stages = all('FROM').flatMap(({ words }) => words[2] ?? [])
  for (const { words } of all('FROM')) t.equal(words[0], '$' + '{NODE}')
  for (const { words } of all('COPY')) {
    const [, stage] = /^--from=(.*)/.exec(words[0] ?? '') ?? []
    if (stage !== undefined) t.ok(stages.includes(stage), stage)
  }
  const release = /node:(\d+)/.exec(last('ARG'))?.[1] ?? ''
  t.match(read('.ci/run'), new RegExp(`^for release in .*\\b${release}\\b`, 'm'), 'CI runs on it')
})

t.test('the image runs what is built, not as root, with one volume', async (t) => {
  const command: readonly string[] = JSON.parse(last('CMD'))
  t.same(command.slice(0, -1), ['node', ...START_ARGS])
  t.ok(existsSync(pathOf(command.at(-1)?.replace(/^dist(.*)\.js$/, 'src$1.ts') ?? '')))
  t.equal(last('USER'), 'node')
  t.match(last('ENV'), 'NODE_ENV=production')
  t.ok(
    last('ENV')
      .split(' ')
      .includes(`DATA_DIR=${last('VOLUME')}`),
  )
  t.equal(Number(last('EXPOSE')), parseConfig({}, () => '').port)
  t.notMatch(last('HEALTHCHECK'), /curl|wget/)
})

t.test('compose.yaml gives settings that we have, from pinned images', async (t) => {
  const images = [...COMPOSE.matchAll(/^ +image: ([^:\s]+):(\S+)$/gm)]
  t.equal(images.length, 3)
  for (const [, image = '', tag = ''] of images) {
    if (image === 'fleetloop') t.equal(tag, version)
    else t.match(tag, PINNED, image)
  }
  const settings = /^ {4}environment:\n((?: {6}.*\n)+)/m.exec(COMPOSE)?.[1] ?? ''
  const names = [...settings.matchAll(/^ {6}([A-Z_]+):/gm)].map(([, name = '']) => name)
  t.ok(names.length > 3)
  for (const name of names) t.ok(CONFIG_VARIABLES.includes(name), name)
  t.ok(
    COMPOSE.includes(`/data:${last('VOLUME')}\n`) || COMPOSE.includes(`data:${last('VOLUME')}\n`),
  )
  for (const [, path = ''] of COMPOSE.matchAll(/- \.\/(\S+?):/g)) {
    t.ok(path === 'fleetloop-token' || existsSync(pathOf(path)), path)
  }
  for (const hardening of ['read_only: true', 'no-new-privileges:true', 'cap_drop:\n      - ALL'])
    t.ok(COMPOSE.includes(hardening), hardening)
  for (const limit of ['mem_limit: 512m', 'ulimits:\n      core: 0']) {
    t.ok(COMPOSE.includes(limit), limit)
  }
  t.match(DOCKER_RUN, ' --memory 512m --ulimit core=0 ')
})

t.test(
  "compose's Prometheus has the documented configuration",
  { skip: missingTools() },
  async (t) => {
    const config = read('deploy/prometheus.yml')
    const bare = config.replace(/^#.*\n/, '').replace('fleetloop:8080', '127.0.0.1:8080')
    t.equal(bare, documentedBlock(CONFIG_FILE))
    const args = ['check', 'config', join(writeFiles(t, 'any', config), CONFIG_FILE)]
    t.equal(spawnSync('promtool', args).status, 0)
  },
)

t.test('what ends is started again, after a reboot too, but what no start mends', async (t) => {
  const services = COMPOSE.split(/^ {2}(?=\w+:$)/m).filter((text) => text.includes(' image: '))
  t.equal(services.length, 3)
  for (const text of [...services, DOCKER_RUN]) t.match(text, /\brestart:? unless-stopped\b/)
  t.match(UNIT, /^StartLimitIntervalSec=0$/m)
  t.match(UNIT, /^Restart=on-failure$/m)
  t.match(UNIT, /^RestartPreventExitStatus=64 78$/m)
})

t.test(
  "docker's command line takes the documented command",
  { skip: !hasTool('docker') && 'only where docker is' },
  async (t) => {
    const cwd = temporary(t)
    writeFileSync(join(cwd, 'fleetloop.env'), '')
    const [docker = '', ...args] = DOCKER_RUN.split(' ')
    // It reads its options before it looks for an engine.
    const env = { PATH: process.env['PATH'], DOCKER_HOST: `unix://${join(cwd, 'no-engine')}` }
    t.match(spawnSync(docker, args, { cwd, env, encoding: 'utf8' }).stderr, /connect to the Docker/)
  },
)

t.test('nginx takes the documented proxy', { skip: !hasNginx && 'needs nginx' }, async (t) => {
  const directory = temporary(t)
  const pem = join(directory, 'fleetloop.pem')
  const key = join(directory, 'fleetloop.key')
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const files = ['-subj', '/CN=fleetloop', '-keyout', key, '-out', pem]
  t.equal(spawnSync('openssl', [...request, ...files]).status, 0)
  const shown = documentedBlock('nginx.conf')
  // What only root may do elsewhere: its ports and its directories.
  const proxy = shown
    .replaceAll('/etc/nginx', directory)
    .replace('listen 443 ', `listen unix:${directory}/proxy `)
  const temporaries = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${directory}/${name};`)
    .join('\n')
  const config = join(directory, 'nginx.conf')
  const around = `pid ${directory}/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n`
  writeFileSync(config, `${around}${temporaries}\n${proxy}}\n`)
  const tested = spawnSync('nginx', ['-t', '-c', config, '-p', directory], { encoding: 'utf8' })
  t.equal(tested.status, 0, tested.stderr)
  t.notMatch(tested.stderr, /\[(warn|emerg)\]/)
  const limitMb = Number(/client_max_body_size (\d+)m;/.exec(shown)?.[1])
  t.equal(limitMb * 1024 * 1024, parseConfig({}, () => '').apkMaxBytes, 'an APK of APK_MAX_BYTES')
})

t.test('the unit ends what hangs or grows without end, and leaves no core file', async (t) => {
  for (const line of ['Type=notify', 'NotifyAccess=all', 'LimitCORE=0', 'MemoryMax=512M']) {
    t.ok(UNIT.split('\n').includes(line), line)
  }
  t.ok(Number(/^WatchdogSec=(\d+)$/m.exec(UNIT)?.[1]) > 0)
})

t.test('whoever stops the service has more patience than it needs', async (t) => {
  const { shutdownGraceMs } = parseConfig({}, () => '')
  const patience = [
    /^TimeoutStopSec=(\d+)$/m.exec(UNIT)?.[1],
    /stop_grace_period: (\d+)s/.exec(COMPOSE)?.[1],
    /--stop-timeout (\d+)/.exec(DOCKER_RUN)?.[1],
  ]
  for (const seconds of patience) t.ok(Number(seconds) * 1_000 > shutdownGraceMs)
})

t.test('the installation names files and the version that are there', async (t) => {
  const versions = [...INSTALL.matchAll(/fleetloop[-:](\d\S*?)(?=\.tgz|[\s/]|$)/gm)]
  t.ok(versions.length > 5)
  for (const [text = '', found] of versions) t.equal(found, version, text)
  t.match(INSTALL, `/opt/fleetloop/deploy/fleetloop.service`)
  t.match(UNIT, `node ${START_ARGS.join(' ')} /opt/fleetloop/dist/main.js\n`)
  t.match(UNIT, 'EnvironmentFile=/etc/fleetloop.env')
  t.match(INSTALL, '/etc/fleetloop.env')
})

t.test(
  'systemd takes the unit, with the key for FCM beside it, and finds it closed',
  { skip: !hasTool('systemd-analyze') && 'needs systemd-analyze' },
  async (t) => {
    const unit = join(temporary(t), 'fleetloop.service')
    const dropIn = documentedBlock('fcm.conf')
    writeFileSync(unit, UNIT.replace('/usr/bin/node', process.execPath))
    mkdirSync(`${unit}.d`)
    writeFileSync(join(`${unit}.d`, 'fcm.conf'), dropIn)
    const analyze = (...args: string[]) =>
      spawnSync('systemd-analyze', [...args, unit], { encoding: 'utf8' })
    t.match(analyze('--man=no', 'verify'), { status: 0, stderr: '' })
    const { status, stdout } = analyze('--offline=true', '--threshold=15', 'security')
    t.equal(status, 0, /exposure level.*: ([\d.]+)/.exec(stdout)?.[0] ?? stdout)
    const settings = `${UNIT}${dropIn}`.matchAll(/^Environment=(.*)$/gm)
    const variables = [...settings].flatMap(([, given = '']) => given.split(' '))
    t.equal(variables.length, 3)
    for (const variable of variables) {
      t.ok(CONFIG_VARIABLES.includes(variable.replace(/=.*/, '')), variable)
    }
  },
)

function temporary(t: Test): string {
  const directory = tempDirectory(t)
  return directory
}
