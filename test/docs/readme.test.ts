/** The README is true: its tour prints what it shows, as npm start serves it, and what it names is there. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { START_ARGS } from '../../testkit/service.ts'
import { until } from '../../testkit/until.ts'
import { leaksIn, rememberSecret } from '../helpers/secrets.ts'
import {
  copyProject,
  missingTools,
  playTour,
  README,
  ROOT,
  readersEnv,
  readTour,
  startToured,
} from './commands/tour.ts'
import { normalizer } from './commands/volatile.ts'
import { blocksOf, sectionOf } from './markdown.ts'

/** script(1) of util-linux gives a program a terminal. */
const hasScript = spawnSync('script', ['--version']).status === 0
const onTerminal = { skip: hasScript ? false : 'no script(1)' }

t.test('the tour prints what the README says', { skip: missingTools }, async (t) => {
  const { start } = readTour()
  const directory = copyProject(t)
  const service = await startToured(t, directory, start.command.text, {})
  const normalStart = normalizer()
  t.equal(normalStart(service.notes), normalStart(start.output), 'what the start says on stderr')

  const printed = playTour(t, directory, service.origin)

  await service.interrupt()
  await until(() => service.log().includes('"event":"service.stop"')) // npm may end before it
  const lines = service.log().trimEnd().split('\n')
  t.equal(JSON.parse(lines.at(-1) ?? '').event, 'service.stop', 'Ctrl-C drains and stops')
  t.doesNotThrow(() => lines.map((line) => JSON.parse(line)), 'the log holds only JSON')

  for (const file of ['admin-token', 'hmac-secret']) {
    rememberSecret(readFileSync(join(directory, 'data', file), 'utf8').trim())
  }
  t.not(leaksIn(printed).length, 0, 'the tour shows what the API hands out')
  for (const [, secret] of printed.matchAll(/"(?:device_token|hmac_key|token)": "([^"]+)"/g)) {
    rememberSecret(secret)
  }
  t.same(leaksIn(service.log()), [], 'no secret stands in the log')

  await t.test('on a terminal the same start shows readable lines', onTerminal, async (t) => {
    const [program, end] = [`exec node ${START_ARGS.join(' ')} dist/main.js`, '\u0003']
    const env = readersEnv({ PORT: '0', TERM: 'xterm', NO_COLOR: '1' })
    const script = spawn('script', ['-qec', program, '/dev/null'], { cwd: directory, env })
    let shown = ''
    script.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (!shown.includes('service.ready') && text.includes('service.ready'))
        script.stdin.write(end)
      shown += text
    })
    t.same(await once(script, 'close'), [0, null])
    const rows = shown.match(/(?<=\d\d:\d\d:\d\d\.\d{3} ).*/g) ?? []
    t.match(rows, [
      /^INFO {2}service\.start +version=/,
      /^INFO {2}service\.ready +startup_ms=/,
      /^INFO {2}service\.stop +reason=SIGINT/,
    ])
    t.notMatch(shown, '{"ts"')
  })
})

t.test('each script that the README names is there', async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  for (const [, script = ''] of README.matchAll(/npm run (?:-s )?([a-z]+)/g)) {
    t.ok(script in scripts, `npm run ${script}`)
  }
})

t.test('the way into production is the one that .ci/run goes', async (t) => {
  const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
  const ci = read('.ci/run')
  const install = read('docs/operate/install.md')
  const lines = blocksOf(sectionOf(install, 'Build a release')).flatMap(({ text }) =>
    text.trimEnd().split('\n'),
  )
  const commands = lines
    .filter((line) => !line.includes('…'))
    .flatMap((line) => line.replace(/ +#.*/, '').split(' && '))
  t.match(commands, ['npm ci', 'npm pack', /^tar /, 'npm ci --omit=dev'])
  for (const command of commands) t.ok(ci.includes(command), command)
  const { version } = JSON.parse(read('package.json'))
  t.match(install, `fleetloop-${version}.tgz`)
  t.match(read('CHANGELOG.md'), `## [${version}]`)
})
