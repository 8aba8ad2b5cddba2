/**
 * node scripts/docs.mjs [--check]: writes .env.example, pages of docs/reference/ and tables of other pages from the tables in
 * the code, and the types of the command line's client from openapi.json. Sentences are the doc comments of their rows; links in these start from docs/reference/. With --check it writes
 * nothing, names each file that is not up to date, and exits with 1. Needs the compiled sources in build/.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { clientTypes } from './client-types.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const REFERENCE = 'docs/reference'
const ENV_COLUMNS = 120

/** By path: what the files hold once they are written. */
const files = new Map()
const read = (path) => files.get(path) ?? readFileSync(join(ROOT, path), 'utf8')
const built = (path) => import(new URL(`../build/src/${path}`, import.meta.url).href)
const code = (text) => (text === '' ? '' : `\`${text}\``)
const codes = (words) => words.map(code).join(', ')

/**
 * The rows of a table in a source, by key: `text` is the comment's sentence, each @tag in it a property, and `heading` the
 * last `//` line before the row.
 */
function commentsOf(path, name, keys) {
  const table = new RegExp(`^(?:export )?const ${name}\\b[^\\n]* = \\{\\n([\\s\\S]*?)^\\}`, 'm')
  const [, body = ''] = table.exec(read(path)) ?? []
  const rows = new Map()
  let heading = ''
  const pattern = /^ {2}\/\/ (.+)$|^ {2}\/\*\*([\s\S]*?)\*\/\s+'?([\w.]+)'?:/gm
  for (const [, title, comment, key] of body.matchAll(pattern)) {
    if (title === undefined) rows.set(key, { heading, ...tagsOf(comment) })
    else heading = title
  }
  const bare = keys.filter((key) => !rows.get(key)?.text)
  if (bare.length > 0) throw new Error(`${path}, ${name}: no comment on ${bare.join(', ')}`)
  return rows
}

function tagsOf(comment) {
  const [text, ...tags] = comment
    .replace(/\n\s*\* ?/g, ' ')
    .trim()
    .split(/ *@(?=(?:act|labels) )/)
  return { text: text.trim(), ...Object.fromEntries(tags.map((tag) => tag.trim().split(/ (.*)/s))) }
}

/** Links lead from `path` to where they lead from docs/reference/. */
function relinked(path, text) {
  return text.replace(/\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)/g, (_, page, anchor = '') => {
    const target = join(REFERENCE, page)
    return `](${target === path ? '' : relative(dirname(path), target)}${anchor})`
  })
}

function table(path, head, rows) {
  const line = (cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`
  return relinked(path, line(head) + line(head.map(() => '---')) + rows.map(line).join(''))
}

/** Replaces the first table under a heading. */
function fill(path, heading, head, rows) {
  const page = read(path)
  const start = page.indexOf('\n|', page.indexOf(`\n## ${heading}\n`)) + 1
  const length = page.slice(start).search(/^(?!\|)/m)
  if (start === 0 || length < 1) throw new Error(`${path} has no table under "${heading}"`)
  files.set(path, page.slice(0, start) + table(path, head, rows) + page.slice(start + length))
}

async function settings() {
  const source = 'src/config/settings.ts'
  const { SETTINGS } = await built('config/settings.js')
  const { unitOf } = await built('config/env-reader.js')
  const comments = commentsOf(source, 'SETTINGS', Object.keys(SETTINGS))
  const groups = new Map()
  for (const [key, { variables, example, range }] of Object.entries(SETTINGS)) {
    const { heading, text } = comments.get(key)
    if (!groups.has(heading)) groups.set(heading, [])
    for (const [index, name] of variables.entries()) {
      const values = range === undefined ? '' : `${range.join(' to ')} ${unitOf(name)}`.trim()
      const meaning = index === 0 ? text : `See ${variables[0]}.`
      groups.get(heading).push({ name, example, values, meaning })
    }
  }
  envExample([...groups.values()])
  const path = `${REFERENCE}/settings.md`
  const head = ['variable', 'default', 'range', 'meaning']
  const sections = [...groups].map(([heading, rows]) => {
    const cells = rows.map((row) => [code(row.name), code(row.example), row.values, row.meaning])
    return `## ${heading}\n\n${table(path, head, cells)}`
  })
  const introduction = `For the operator: every environment variable. An empty value counts as not given. Each can come from a file: \`NAME_FILE=/path\`. \`npm run docs\` writes this page and \`.env.example\` from \`${source}\`.`
  files.set(path, `# Settings\n\n${introduction}\n\n${sections.join('\n')}`)
}

function envExample(groups) {
  const row = ({ name, example, values, meaning }) => {
    const plain = meaning
      .replaceAll('`', '')
      .replace(/\[(.*?)\]\((.*?)\)/g, (_, text, target) => `${text} (${join(REFERENCE, target)})`)
    return `${comment(`${plain}${values && ` (${values})`}`)}\n${name}=${example}\n`
  }
  const introduction = comment(
    'Every setting with its default. An empty value counts as not given. Each can come from a file: NAME_FILE=/path. npm run docs writes this file from src/config/settings.ts.',
  )
  files.set(
    '.env.example',
    `${[introduction, ...groups.map((rows) => rows.map(row).join('').trimEnd())].join('\n\n')}\n`,
  )
}

/** Lines that begin with `#`. */
function comment(text) {
  const lines = ['#']
  for (const word of text.split(' ')) {
    if (lines.at(-1).length + 1 + word.length > ENV_COLUMNS) lines.push('#')
    lines.push(`${lines.pop()} ${word}`)
  }
  return lines.join('\n')
}

async function events() {
  const source = 'src/telemetry/log/events.ts'
  const { EVENTS } = await built('telemetry/log/events.js')
  const comments = commentsOf(source, 'EVENTS', Object.keys(EVENTS))
  fill(
    `${REFERENCE}/events.md`,
    'Table of events',
    ['event', 'level', 'own fields', 'when'],
    Object.entries(EVENTS).map(([event, { levels, fields }]) => [
      ...[code(event), levels.join(', '), codes(Object.keys(fields))],
      comments.get(event).text,
    ]),
  )
  const bad = Object.entries(EVENTS).filter(([, { levels }]) => /WARN|ERROR/.test(levels))
  const rows = bad.map(([event]) => [code(event), comments.get(event).act])
  const bare = rows.filter(([, act]) => act === undefined)
  if (bare.length > 0) throw new Error(`${source}: no @act on ${bare}`)
  fill('RUNBOOK.md', 'What to do about an event', ['event', 'what to do'], rows)
}

async function metrics() {
  const source = 'src/telemetry/metrics/names.ts'
  const { METRICS, GAUGES } = await built('telemetry/metrics/names.js')
  const rowsOf = (name, metricTable) => {
    const comments = commentsOf(source, name, Object.keys(metricTable))
    return Object.entries(metricTable).map(([key, [metric, ...rest]]) => {
      const { text, act, labels = '' } = comments.get(key)
      const type = rest.length > 1 ? rest[0] : metric.endsWith('_ms') ? 'histogram' : 'counter'
      return [code(metric), type, labels, act === undefined ? text : `${text} ${act}`]
    })
  }
  fill(
    `${REFERENCE}/metrics.md`,
    'Table of metrics',
    ['name', 'type', 'labels', 'what it tells'],
    [...rowsOf('METRICS', METRICS), ...rowsOf('GAUGES', GAUGES)],
  )
}

async function errors() {
  const { STATUS } = await built('http/errors.js')
  const comments = commentsOf('src/http/errors.ts', 'STATUS', Object.keys(STATUS))
  const rowsOf = (isTheirs) =>
    Object.entries(STATUS)
      .filter(([, status]) => isTheirs(status))
      .map(([name, status]) => {
        const { text, act } = comments.get(name)
        if (act === undefined) throw new Error(`${name} has no @act`)
        return [`${status} ${code(name)}`, text, act]
      })
  const head = ['code', 'meaning', 'what to do']
  const [ofClients, ofService] = [
    rowsOf((status) => status < 500),
    rowsOf((status) => status >= 500),
  ]
  fill(`${REFERENCE}/errors.md`, 'Each 4xx', head, ofClients)
  fill(`${REFERENCE}/errors.md`, 'Each 5xx', head, ofService)
  fill('RUNBOOK.md', 'Why 5xx?', head, ofService)
}

/** Who opens which endpoint. */
async function scopes() {
  const { ROUTE_LIST } = await built('routes/table.js')
  const CREDENTIALS = {
    open: 'none',
    'enrollment-token': 'an enrollment token',
    device: 'a device token',
    'device-token': 'a device token',
    downloader: 'an enrollment token, a device token, or an admin token',
    admin: 'an admin token',
  }
  const rows = ROUTE_LIST.map(({ method, path, guard, scopes: theirs = [] }) => {
    const names = guard === 'downloader' ? ['apk'] : theirs
    return [code(`${method} ${path}`), CREDENTIALS[guard], codes(names)]
  })
  const page = `${REFERENCE}/scopes.md`
  const introduction =
    'For the operator who hands out credentials: what each endpoint asks for. One of the scopes is enough; the scope `admin` opens every endpoint that asks for an admin token. What a thief could do with each: [SECURITY.md](../../SECURITY.md#who-can-do-what). `npm run docs` writes this page from `src/routes/table.ts`.'
  const head = ['endpoint', 'credential', 'scope of an admin token']
  files.set(page, `# Scopes\n\n${introduction}\n\n${table(page, head, rows)}`)
}

/** The column `opens` of the table of credentials. */
async function opens() {
  const { ROUTE_LIST } = await built('routes/table.js')
  const { ADMIN_SCOPES } = await built('domain/identity.js')
  const guardedBy = (...guards) => ROUTE_LIST.filter(({ guard }) => guards.includes(guard))
  const holders = new Map([
    ['nothing', guardedBy('open')],
    ['an enrollment token', guardedBy('enrollment-token', 'downloader')],
    ['a device token', guardedBy('device', 'device-token', 'downloader')],
  ])
  for (const scope of ADMIN_SCOPES) {
    const isOpened = ({ guard, scopes = [] }) =>
      scope === 'admin'
        ? String(scopes) === 'admin'
        : scopes.includes(scope) || (guard === 'downloader' && scope === 'apk')
    holders.set(`admin, scope \`${scope}\``, ROUTE_LIST.filter(isOpened))
  }
  const page = read('SECURITY.md').replace(/^\| (.+?) \| .*? \|/gm, (cells, holder) => {
    const opened = holders.get(holder)
    if (opened === undefined) return cells
    const rest = holder.endsWith('`admin`') ? 'all of these, and ' : ''
    return `| ${holder} | ${rest}${codes(opened.map(({ method, path }) => `${method} ${path}`))} |`
  })
  files.set('SECURITY.md', page)
}

/** The verbs of the command line. */
async function verbs() {
  const { VERBS } = await built('cli/verbs.js')
  const { scopesOf } = await built('cli/help.js')
  const rows = VERBS.map((verb) => [
    code(`${verb.name} ${verb.words}`.trimEnd()),
    verb.summary,
    scopesOf(verb),
  ])
  fill('docs/operate/cli.md', 'Verbs', ['verb', 'what it does', 'scope of the token'], rows)
}

/** The types of the command line's client. */
function client() {
  files.set('src/cli/api/openapi.ts', clientTypes(JSON.parse(read('openapi.json'))))
}

for (const write of [settings, events, metrics, errors, scopes, opens, client, verbs]) await write()
for (const [path, text] of files) {
  const file = join(ROOT, path)
  if (existsSync(file) && readFileSync(file, 'utf8') === text) continue
  if (process.argv.includes('--check')) {
    process.stderr.write(`${path} is not up to date: npm run docs\n`)
    process.exitCode = 1
  } else {
    writeFileSync(file, text)
  }
}
