/** The runbook and the reference pages say what the code says, and are complete. Their commands: runbook-commands.test.ts. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { DRILLS } from '../../drills/index.ts'
import { CONFIG_VARIABLES, parseConfig } from '../../src/config/config.ts'
import { CALL_TROUBLES, TROUBLES } from '../../src/db/health/trouble.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import { TERM_NAMES } from '../../src/domain/selection/terms.ts'
import { PAGES } from '../helpers/pages.ts'
import { blocksOf, codesOf, sectionOf, tableOf } from './markdown.ts'

const ROOT = dirname(fileURLToPath(import.meta.resolve('#package.json')))
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const RUNBOOK = read('RUNBOOK.md')
const BOUNDS = tableOf(read('docs/reference/bounds.md'))
const SOURCES = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter(
  (path) => path.endsWith('.ts'),
)

t.test('generated pages and .env.example are up to date', async (t) => {
  const script = join(ROOT, 'scripts/docs.mjs')
  const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' })
  t.same({ status, stderr }, { status: 0, stderr: '' })
})

t.test('each cause for which there is no database is told', async (t) => {
  const table = tableOf(sectionOf(RUNBOOK, 'Database trouble'))
  const told = table.flatMap(([codes = '']) => codesOf(codes))
  t.same(told.sort(), Object.keys(TROUBLES).sort())
  const ofOneCall = tableOf(sectionOf(RUNBOOK, 'One statement, not the database'))
  const causes = ofOneCall.flatMap(([codes = '']) => codesOf(codes))
  t.same(causes.sort(), Object.keys(CALL_TROUBLES).sort())
})

t.test('each SQL statement can be pasted into psql as it stands', async (t) => {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).map((name) =>
    join('docs', name),
  )
  let statements = 0
  for (const path of [...readdirSync(ROOT), ...docs].filter((name) => name.endsWith('.md'))) {
    const markdown = read(path)
    const blocks = blocksOf(markdown).filter(({ language }) => language === 'sql')
    const inline = codesOf(markdown.replace(/^```.*?^```/gms, '')).filter((code) =>
      /^(select|insert|update|delete|alter|create|drop|vacuum) (\S+ ){2,}/.test(code),
    )
    for (const sql of [...blocks.map(({ text }) => text.trimEnd()), ...inline]) {
      t.match(sql, /;$/, `${path}: ${sql}`)
      statements += 1
    }
  }
  t.ok(statements > 10)
})

t.test('each bound stands in the code with that size', async (t) => {
  t.ok(BOUNDS.length > 40)
  for (const [what, size = '', where = ''] of BOUNDS) {
    const [code = ''] = codesOf(size)
    const [path = ''] = codesOf(where)
    // To the end of the number: `= 1` is not `= 10`.
    const pattern = new RegExp(`${escaped(code)}(?![\\w*. ]*\\d)`)
    t.ok(pattern.test(read(path)), `${what}: ${code} in ${path}`)
  }
})

/** Formats of others, and what the contract says: openapi.json, the log's fields. */
const NO_BOUNDS = new Set(
  ['EPOCH_MS', 'EXACT_MS', 'COMMENT_BYTES', 'SOCKET_PATH_BYTES', 'CHUNK_BYTES', 'LIMIT']
    .concat('FCM_TOKEN_LENGTH', 'USER_AGENT', 'CAUSES_READ', 'ADDRESSES_SHOWN', 'LETTERS')
    .map((name) => `MAX_${name}`),
)

t.test('each greatest size in the code is a bound there, but what routes read', async (t) => {
  const listed = BOUNDS.map(([, size = '', where = '']) =>
    [codesOf(where)[0], codesOf(size)[0]?.replace(/ = .*/, '')].join(' '),
  )
  for (const file of SOURCES.filter((path) => !/^(routes|cli)\//.test(path))) {
    const text = read(join('src', file))
    for (const [, name = ''] of text.matchAll(/^(?:export )?const (MAX_[A-Z_]+) =/gm)) {
      if (!NO_BOUNDS.has(name)) t.ok(listed.includes(`src/${file} ${name}`), `src/${file} ${name}`)
    }
  }
})

t.test('the states of the sender are those that the code names, in its words', async (t) => {
  const section = sectionOf(read('docs/operate/push.md'), 'States of the sender')
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
  const rows = tableOf(read('docs/develop/drills.md'))
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

t.test('each term of a selection is documented, and each documented one is a term', async (t) => {
  const page = read('docs/reference/selection.md')
  const terms = tableOf(page).flatMap(([term = '']) => codesOf(term))
  for (const term of terms) t.equal(parseSelection(term).length, 1, term)
  const names = terms.map((term) => /^\w+/.exec(term)?.[0])
  t.same(new Set(names), new Set(TERM_NAMES))
  const [where = ''] = /(?<='where=)[^']+/.exec(page) ?? []
  t.equal(parseSelection(where).length, 3, where)
})

t.test('settings without effect are named, and no others', async (t) => {
  const sources = SOURCES.filter((path) => !/^config\/(config|settings|readers)\.ts$/.test(path))
    .map((path) => read(join('src', path)))
    .join('\n')
  const unused = Object.keys(parseConfig({}, () => '')).flatMap((key) => {
    const variable = key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
    return new RegExp(`\\b(${key}|${variable})\\b`).test(sources) ? [] : [variable]
  })
  const sentence = /^Read but without effect in this release: .*$/m.exec(RUNBOOK)?.[0] ?? ''
  t.same(codesOf(sentence).toSorted(), unused.toSorted())
  for (const name of codesOf(sentence)) t.ok(CONFIG_VARIABLES.includes(name), name)
})

/** As GitHub makes them. */
function anchorsOf(markdown: string): readonly string[] {
  return [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  )
}

t.test('links of every page lead somewhere', async (t) => {
  for (const page of PAGES) {
    for (const [, target = ''] of read(page).matchAll(/\]\(((?!https?:)[^)\s]+)\)/g)) {
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? page : join(dirname(page), path)
      if (anchor === undefined) t.ok(existsSync(join(ROOT, file)), `${page}: ${target}`)
      else t.ok(anchorsOf(read(file)).includes(anchor), `${page}: ${target}`)
    }
  }
})

t.test('README and runbook stay short, and every page says who it is for', async (t) => {
  const linesOf = (path: string) => read(path).trimEnd().split('\n').length
  t.ok(linesOf('README.md') <= 180)
  t.ok(linesOf('RUNBOOK.md') <= 350)
  for (const page of PAGES.filter((path) => !/^(README|CHANGELOG)\.md$/.test(path))) {
    const [, first = ''] = read(page).split(/\n\n/)
    t.match(first, /^For (the|any)/, page)
  }
})

t.test('source files that the architecture names are there', async (t) => {
  const text = read('docs/develop/architecture.md').replace(/^```.*?^```/gms, '')
  const files = codesOf(text).filter((code) => /^(src|test)\/\S+\.ts$/.test(code))
  t.ok(files.length > 10)
  for (const file of files) t.ok(existsSync(join(ROOT, file)), file)
})

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
