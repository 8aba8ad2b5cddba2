/** Tables on a terminal: they fit it, and nothing that a phone says acts on it. */
import t from 'tap'
import { createTable } from '../../src/cli/terminal/table.ts'
import { cells, clip, jsonLine, visible } from '../../src/cli/terminal/text.ts'

const HOSTILE = 'a\u001b[2J\u001b]0;renamed\u0007b\u009b31mc\rd\u202ee\u2066f\u200bg\ud800h\ue000'

t.test('control and invisible characters are shown, not sent', async (t) => {
  const shown = visible(HOSTILE)
  t.equal(
    shown,
    'a\\x1b[2J\\x1b]0;renamed\\x07b\\x9b31mc\\rd\\u{202e}e\\u{2066}f\\u{200b}g\\u{d800}h\\u{e000}',
  )
  const json = jsonLine({ text: HOSTILE, emoji: '👩‍💻' })
  t.notMatch(json, /[\p{Cc}\u202e\u2066\u200b]/u)
  t.same(JSON.parse(json), { text: HOSTILE, emoji: '👩‍💻' }, 'and JSON keeps its meaning')
})

t.test('text is measured in cells', async (t) => {
  for (const [text, width] of [
    ['', 0],
    ['D01', 3],
    ['小米', 4],
    ['ｆｕｌｌ', 8],
    ['한글', 4],
    ['e\u0301', 1],
    ['🤖', 2],
    ['👩‍💻', 2],
    ['☁️', 2],
    ['🇨🇭', 2],
    ['Zürich', 6],
    ['…', 1],
    ['می‌خواهم', 7],
  ] as const) {
    t.equal(cells(text), width, JSON.stringify(text))
  }
  t.equal(clip('小米手机', 8), '小米手机')
  t.equal(clip('小米手机', 7), '小米手…')
  t.equal(clip('小米手机', 6), '小米…')
  t.equal(clip('abc', 2), 'a…')
})

const COLUMNS = [
  { title: 'ALIAS' },
  { title: 'BATTERY', align: 'right' },
  { title: 'MODEL' },
  { title: 'ID', isFixed: true },
] as const

t.test('columns are as wide as their longest value', async (t) => {
  const table = createTable(COLUMNS, undefined, (text) => text)
  const rows = [
    ['STORE-1', '100 %', '小米 手机', 'id-1'],
    ['D2', null, '', 'id-2'],
  ]
  t.same(table.page(rows), [
    'ALIAS    BATTERY  MODEL      ID',
    'STORE-1    100 %  小米 手机  id-1',
    'D2             -  -          id-2',
  ])
  t.same(table.page([['D3', '5 %', 'x', 'id-3']]), ['D3           5 %  x          id-3'])
})

t.test('no line is wider than the terminal, whatever phones say', async (t) => {
  const long = ['A'.repeat(64), '100 %', `${'模'.repeat(100)}${HOSTILE}`, 'i'.repeat(36)]
  for (const width of [1, 10, 20, 40, 80, 120, 200]) {
    const table = createTable(COLUMNS, width, (text) => text)
    const lines = [...table.page([['D01', '7 %', 'R4S', 'id-1'], long]), ...table.page([long])]
    t.equal(lines.length, 4)
    for (const line of lines) t.ok(cells(line) <= width, `${width}: ${line}`)
  }
  const [titles] = createTable(COLUMNS, 80, (text) => text).page([long])
  t.match(titles, /^ALIAS +BATTERY +MODEL +ID/)
  const [narrow] = createTable(COLUMNS, 40, (text) => text).page([long])
  t.match(narrow, /^ALIAS +BATTERY +MODEL$/, 'an id in part is of no use')
})
