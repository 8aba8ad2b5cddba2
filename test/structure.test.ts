/** The shape of the tree: who may import whom, small files, and a route table that is served as it stands. */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { ROUTE_LIST } from '../src/routes/table.ts'
import { startService } from './helpers/service.ts'
import { IMPORTS } from './layers.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const SRC = join(ROOT, 'src')
const RULES = [
  'style/noRestrictedImports',
  'style/noExcessiveLinesPerFile',
  'complexity/noExcessiveLinesPerFunction',
  'suspicious/noConsole',
]

function sources(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sources(path)
    return entry.name.endsWith('.ts') ? [path] : []
  })
}

/** Biome over planted files, with the project's own rules: which rule complained about which file. */
function lint(t: Test, files: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const directory = mkdtempSync(join(tmpdir(), 'fleetloop-lint-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  for (const name of ['biome.json', 'package.json']) {
    copyFileSync(join(ROOT, name), join(directory, name))
  }
  for (const [file, text] of files) {
    mkdirSync(join(directory, dirname(file)), { recursive: true })
    writeFileSync(join(directory, file), text)
  }
  const biome = join(ROOT, 'node_modules/@biomejs/biome/bin/biome')
  const only = RULES.map((rule) => `--only=${rule}`)
  const { stdout } = spawnSync(
    process.execPath,
    [biome, 'lint', ...only, '--reporter=github', '--max-diagnostics=none', '.'],
    { cwd: directory, encoding: 'utf8' },
  )
  const found = stdout.matchAll(/title=lint\/\w+\/(\w+),file=[^,]*?\/((?:src|sim)\/[^,]+),/g)
  return new Map([...found].map(([, rule = '', file = '']) => [file, rule]))
}

t.test('no file is longer than 300 lines, and no function than 70', async (t) => {
  const lines = (count: number) => Array.from({ length: count }, (_, n) => `f(${n})\n`).join('')
  const body = (count: number) => `function long() {\n${lines(count)}}\n`
  const found = lint(
    t,
    new Map([
      ['src/file-300.ts', lines(300)],
      ['src/file-301.ts', lines(301)],
      ['src/function-68.ts', body(68)],
      ['src/function-71.ts', body(71)],
    ]),
  )
  t.same(
    found,
    new Map([
      ['src/file-301.ts', 'noExcessiveLinesPerFile'],
      ['src/function-71.ts', 'noExcessiveLinesPerFunction'],
    ]),
  )
})

t.test('no folder has more than sixteen files, and src three of its own', (t) => {
  const top = ['src', 'test', 'testkit', 'sim', 'drills', 'bench']
  const count = new Map<string, number>()
  for (const file of top.flatMap((name) => sources(join(ROOT, name)))) {
    const folder = relative(ROOT, dirname(file))
    count.set(folder, (count.get(folder) ?? 0) + 1)
  }
  t.same(
    [...count].filter(([, files]) => files > 16),
    [],
  )
  t.equal(count.get('src'), 3)
  t.end()
})

t.test('imports that the layers forbid are refused by the linter', async (t) => {
  const planted = new Map<string, string>()
  const cases = IMPORTS.flatMap(({ file, refused, allowed }) => {
    const plant = (statement: string, index: number, isAllowed: boolean) => {
      const path = `src/${file.replace('x.ts', `${isAllowed ? 'allowed' : 'refused'}-${index}.ts`)}`
      planted.set(path, `${statement}\n`)
      return { path, statement, isAllowed }
    }
    return [
      ...refused.map((statement, index) => plant(statement, index, false)),
      ...allowed.map((statement, index) => plant(statement, index, true)),
    ]
  })
  const found = lint(t, planted)
  for (const { path, statement, isAllowed } of cases) {
    const expected = isAllowed ? undefined : 'noRestrictedImports'
    t.equal(found.get(path), expected, `${dirname(path)}: ${statement}`)
  }
})

t.test('console is refused under src', async (t) => {
  const text = `console.log('x')\n`
  const folders = 'app domain lib db http routes push security telemetry apk'.split(' ')
  const files = ['src', ...folders.map((name) => `src/${name}`)].map((path) => `${path}/planted.ts`)
  const found = lint(t, new Map(files.map((file) => [file, text])))
  for (const file of files) t.equal(found.get(file), 'noConsole', file)
})

/** How code gets at stdout: by Node's stream, its descriptor, its path, or a child that inherits it. */
const STDOUT =
  /\bprocess\b[?.\s['"]*stdout\b|\bstdout\b[^;=]*=\s*process\b|'(?:node:)?process'|\w*(?:[wW]rite|append)\w*\(\s*1\b|\bfd: 1\b|\/dev\/stdout|\/fd\/1\b|'inherit'/g

t.test('nothing but the log gets at stdout, and by one file', async (t) => {
  const waysIn = (text: string) => {
    const code = text.replace(/\/\*[\s\S]*?\*\/|(?<!:)\/\/.*/g, '')
    return [...new Set([...code.matchAll(STDOUT)].map(([way]) => way))]
  }
  for (const planted of [
    `process.stdout.write('x')`,
    `process['stdout'].write('x')`,
    `const { stdout } = process`,
    `import { stdout } from 'node:process'`,
    `writeSync(1, 'x')`,
    `fs.appendFileSync(1, 'x')`,
    `createWriteStream('', { fd: 1 })`,
    `openSync('/dev/stdout', 'w')`,
    `openSync('/proc/self/fd/1', 'w')`,
    `spawn('x', { stdio: 'inherit' })`,
  ]) {
    t.equal(waysIn(planted).length, 1, planted)
  }
  const found = sources(SRC).flatMap((path) =>
    waysIn(readFileSync(path, 'utf8')).map((way) => `${relative(SRC, path)}: ${way}`),
  )
  t.same(found.toSorted(), [
    'app/process.ts: fd: 1',
    'app/process.ts: process.stdout', // --help and --version, instead of a service
    'cli/main.ts: process.stdout',
    'cli/why.ts: process.stdout',
    'telemetry/log/chunk-writer.ts: process.stdout',
  ])
})

t.test('what the linter cannot see holds as well', async (t) => {
  const IMPORT = /^(?:import|export) (type )?(?:([^'";]*?) from )?'([^']+)'/gm
  const broken: string[] = []
  for (const path of sources(SRC)) {
    const file = relative(SRC, path)
    for (const [, isType, names = '', from = ''] of readFileSync(path, 'utf8').matchAll(IMPORT)) {
      // Nobody imports development code; the router imports nothing of ours.
      const isFree =
        !/(^|\/)(sim|test|testkit|drills|bench)\//.test(from) &&
        !/^router\.ts \./.test(`${file} ${from}`)
      // Routes take only types from these, classes (which look like types to the linter) included.
      const mustBeType = /^routes\/\S+ (?:\.\.\/)+(db|push|security|apk)\//.test(`${file} ${from}`)
      const values = names
        .replace(/[{}]/g, '')
        .split(',')
        .map((name) => name.trim())
      const isOnlyTypes = isType || values.every((name) => name === '' || name.startsWith('type '))
      if (!isFree || (mustBeType && !isOnlyTypes))
        broken.push(`${file} imports ${names} from ${from}`)
    }
  }
  t.same(broken, [])
})

t.test('the production install is the two dependencies and theirs', async (t) => {
  const read = (file: string) => JSON.parse(readFileSync(join(ROOT, file), 'utf8'))
  const { dependencies } = read('package.json')
  t.same(Object.keys(dependencies), ['google-auth-library', 'pg'])
  const { packages } = read('package-lock.json')
  const theirs = new Set<string>()
  const add = (name: string) => {
    const path = `node_modules/${name}`
    if (theirs.has(path)) return
    theirs.add(path)
    const { dependencies: needed, optionalDependencies: wished } = packages[path]
    Object.keys({ ...needed, ...wished }).forEach(add)
  }
  Object.keys(dependencies).forEach(add)
  const installed = Object.keys(packages).filter((path) => path !== '' && !packages[path].dev)
  t.same(installed.toSorted(), [...theirs].toSorted())
})

t.test('npm may run the install scripts that there are, and no others', async (t) => {
  const read = (file: string) => JSON.parse(readFileSync(join(ROOT, file), 'utf8'))
  const { packages } = read('package-lock.json')
  const withScripts = Object.keys(packages).filter((path) => packages[path].hasInstallScript)
  const allowed = Object.entries(read('package.json').allowScripts).flatMap(([name, isAllowed]) =>
    isAllowed ? [`node_modules/${name}`] : [],
  )
  t.same(allowed.sort(), withScripts.sort())
})

t.test('every route of the table is served, and asks for its credential', async (t) => {
  const service = await startService(t)
  for (const { method, path: template, guard } of ROUTE_LIST) {
    const path = template.replace(/\{\w+\}/g, '017f22e2-79b0-7cc3-98c4-dc0c0c07398f')
    const { status, requestId } = await service.call(method, path, { token: null })
    t.equal(status, guard === 'open' ? 200 : 401, `${method} ${template}`)
    if (status === 401) t.equal((await service.lines.terminalOf(requestId))['route'], template)
  }
})
