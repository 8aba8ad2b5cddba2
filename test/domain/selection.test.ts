/** The grammar of `where`: every term, and every refusal with its position. */
import t from 'tap'
import { AppError } from '../../src/domain/errors.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import { TERM_EXAMPLES, TERM_NAMES } from '../../src/domain/selection/terms.ts'

const ID = '01a20000-0000-7000-8000-000000000001'
const ID_2 = '01a20000-0000-7000-8000-00000000000f'

const TESTS: readonly (readonly [string, object])[] = [
  ['alias:STORE-*', { kind: 'text', name: 'alias', patterns: ['STORE-*'] }],
  ['alias:D01,D02', { kind: 'text', name: 'alias', patterns: ['D01', 'D02'] }],
  ['alias:**a***', { kind: 'text', name: 'alias', patterns: ['*a*'] }],
  ['model:"Pixel 3"', { kind: 'text', name: 'model', patterns: ['Pixel 3'] }],
  ['model:"a,b",c', { kind: 'text', name: 'model', patterns: ['a,b', 'c'] }],
  ['model:Pixel" 3"*', { kind: 'text', name: 'model', patterns: ['Pixel 3*'] }],
  ['model:a:b<c=d', { kind: 'text', name: 'model', patterns: ['a:b<c=d'] }],
  ['model:-5', { kind: 'text', name: 'model', patterns: ['-5'] }],
  ['manufacturer:Google', { kind: 'text', name: 'manufacturer', patterns: ['Google'] }],
  ['android:13', { kind: 'text', name: 'android', patterns: ['13'] }],
  ['app:1.0.25*', { kind: 'text', name: 'app', patterns: ['1.0.25*'] }],
  ['agent:2', { kind: 'text', name: 'agent', patterns: ['2'] }],
  ['network:wifi', { kind: 'text', name: 'network', patterns: ['wifi'] }],
  [`device:${ID.toUpperCase()},${ID_2}`, { kind: 'device', ids: [ID, ID_2] }],
  ['label:site', { kind: 'has_label', keys: ['site'] }],
  ['label:site,a.b-c_d', { kind: 'has_label', keys: ['site', 'a.b-c_d'] }],
  ['label:site=zrh', { kind: 'label', key: 'site', patterns: ['zrh'] }],
  ['label:site=z*,bern', { kind: 'label', key: 'site', patterns: ['z*', 'bern'] }],
  ['label:site="Zürich HB"', { kind: 'label', key: 'site', patterns: ['Zürich HB'] }],
  ['label:"site=a b",c', { kind: 'label', key: 'site', patterns: ['a b', 'c'] }],
  ['label:"site="', { kind: 'label', key: 'site', patterns: [''] }],
  ['label:site=""', { kind: 'label', key: 'site', patterns: [''] }],
  ['label:site=zrh,""', { kind: 'label', key: 'site', patterns: ['zrh', ''] }],
  ['label:site="a=b"', { kind: 'label', key: 'site', patterns: ['a=b'] }],
  ['status:warn,error', { kind: 'word', name: 'status', words: ['warn', 'error'] }],
  [
    'push:live,none,dead,off',
    { kind: 'word', name: 'push', words: ['live', 'none', 'dead', 'off'] },
  ],
  ['sdk>=33', { kind: 'number', name: 'sdk', comparison: '>=', values: [33] }],
  ['sdk=33,34', { kind: 'number', name: 'sdk', comparison: '=', values: [33, 34] }],
  ['version_code<42', { kind: 'number', name: 'version_code', comparison: '<', values: [42] }],
  ['battery<=20', { kind: 'number', name: 'battery', comparison: '<=', values: [20] }],
  ['battery>0', { kind: 'number', name: 'battery', comparison: '>', values: [0] }],
  ['uptime>90s', { kind: 'number', name: 'uptime', comparison: '>', values: [90] }],
  ['uptime=30m', { kind: 'number', name: 'uptime', comparison: '=', values: [1_800] }],
  ['uptime<12h', { kind: 'number', name: 'uptime', comparison: '<', values: [43_200] }],
  ['uptime>=7d', { kind: 'number', name: 'uptime', comparison: '>=', values: [604_800] }],
  ['package:com.a,com.b_1', { kind: 'has_package', packages: ['com.a', 'com.b_1'] }],
  ['package:com.a<42', { kind: 'package', package: 'com.a', comparison: '<', values: [42] }],
  ['package:com.a=1,2', { kind: 'package', package: 'com.a', comparison: '=', values: [1, 2] }],
  ['seen<1h', { kind: 'age', name: 'seen', comparison: '<', seconds: 3_600 }],
  ['seen>0s', { kind: 'age', name: 'seen', comparison: '>', seconds: 0 }],
  ['enrolled<7d', { kind: 'age', name: 'enrolled', comparison: '<', seconds: 604_800 }],
  ['online:true', { kind: 'flag', name: 'online', isTrue: true }],
  ['open:false', { kind: 'flag', name: 'open', isTrue: false }],
]

t.test('every term, alone and negated', async (t) => {
  for (const [text, test] of TESTS) {
    t.strictSame(parseSelection(text), [{ text, at: 1, isNegated: false, test }], text)
    const not = { text: `-${text}`, at: 1, isNegated: true, test }
    t.strictSame(parseSelection(`-${text}`), [not], `-${text}`)
  }
  const names = new Set(TESTS.map(([text]) => /^\w+/.exec(text)?.[0]))
  t.strictSame(names, new Set(TERM_NAMES), 'no term is left out')
})

t.test('!= is = negated', async (t) => {
  const sdk = { kind: 'number', name: 'sdk', comparison: '=', values: [33, 34] }
  t.match(parseSelection('sdk!=33,34'), [{ isNegated: true, test: sdk }])
  t.match(parseSelection('-sdk!=33,34'), [{ isNegated: false, test: sdk }])
  const app = { kind: 'package', package: 'com.a', comparison: '=', values: [1] }
  t.match(parseSelection('package:com.a!=1'), [{ isNegated: true, test: app }])
})

t.test('the example of each name is a term of that name', async (t) => {
  for (const name of TERM_NAMES) {
    const [term] = parseSelection(TERM_EXAMPLES[name])
    t.ok(term?.text.startsWith(name), name)
  }
})

t.test('terms are separated by spaces, and know where they stand', async (t) => {
  t.strictSame(parseSelection(''), [])
  t.strictSame(parseSelection('   '), [])
  const terms = parseSelection('  open:true   -model:"R4S 5G, new" sdk>1 ')
  t.strictSame(
    terms.map(({ text, at }) => [text, at]),
    [
      ['open:true', 3],
      ['-model:"R4S 5G, new"', 15],
      ['sdk>1', 36],
    ],
  )
})

const LONG = 'x'.repeat(70)
const TEXT_NAMES = 'alias model manufacturer android app agent network'.split(' ')

const REFUSALS: readonly (readonly [string, string])[] = [
  // names
  [
    'online:true vesion_code<42',
    '`vesion_code<42` at 13: unknown term; did you mean `version_code`?',
  ],
  ['Alias:D01', '`Alias:D01` at 1: unknown term; did you mean `alias`?'],
  ['lable:site', '`lable:site` at 1: unknown term; did you mean `label`?'],
  ['modle:R4S', '`modle:R4S` at 1: unknown term; did you mean `model`?'],
  ['colour:red', '`colour:red` at 1: unknown term'],
  ['-colour:red', '`-colour:red` at 1: unknown term'],
  ['STORE-12', '`STORE-12` at 1: unknown term; did you mean `alias:STORE-12`?'],
  ['sdk>1 onlin', '`onlin` at 7: unknown term; did you mean `online`?'],
  [':x', '`:x` at 1: unknown term'],
  ['sdk!33', '`sdk!33` at 1: unknown term; did you mean `sdk`?'],
  ['online', '`online` at 1: has no value, such as `online:true`'],
  ['sdk>1 - open:true', '`-` at 7: no term follows the `-`'],
  ['"model:a b"', '`"model:a b"` at 1: quote the value, not the whole term: `model:"Pixel 3"`'],
  [`${LONG}:1`, `\`${LONG.slice(6)}…\` at 1: unknown term`],
  // operators
  ...TEXT_NAMES.map((name): [string, string] => [
    `${name}=x`,
    `\`${name}=x\` at 1: ${name} takes :, such as \`${example(name)}\``,
  ]),
  ['status=ok', '`status=ok` at 1: status takes :, such as `status:warn`'],
  ['push!=live', '`push!=live` at 1: push takes :, such as `push:live`'],
  ['online=true', '`online=true` at 1: online takes :, such as `online:true`'],
  ['label<a', '`label<a` at 1: label takes :, such as `label:site=zrh`'],
  [`device=${ID}`, `\`device=${ID}\` at 1: device takes :, such as \`device:${ID}\``],
  ['package=a.b', '`package=a.b` at 1: package takes :, such as `package:com.example.app<42`'],
  ['sdk:33', '`sdk:33` at 1: sdk takes = != < <= > >=, such as `sdk>=33`'],
  ['battery:20', '`battery:20` at 1: battery takes = != < <= > >=, such as `battery<20`'],
  [
    'version_code:4',
    '`version_code:4` at 1: version_code takes = != < <= > >=, such as `version_code<42`',
  ],
  ['uptime:7d', '`uptime:7d` at 1: uptime takes = != < <= > >=, such as `uptime>7d`'],
  ['seen:1h', '`seen:1h` at 1: seen takes < >, such as `seen<1h`'],
  ['seen<=1h', '`seen<=1h` at 1: seen takes < >, such as `seen<1h`'],
  ['enrolled=1h', '`enrolled=1h` at 1: enrolled takes < >, such as `enrolled<7d`'],
  // values
  ['alias:', '`alias:` at 1: the value is missing'],
  ['sdk>', '`sdk>` at 1: the value is missing'],
  ['seen< 1h', '`seen<` at 1: the value is missing'],
  ['label:site=', '`label:site=` at 1: the value is missing'],
  ['package:com.a<', '`package:com.a<` at 1: the value is missing'],
  // a variable of a script that is not set
  ...[...TEXT_NAMES, 'device', 'status', 'push', 'online', 'package'].map(
    (name): [string, string] => [
      `online:true -${name}:""`,
      `\`-${name}:""\` at 13: the value is missing`,
    ],
  ),
  ['sdk!=""', '`sdk!=""` at 1: the value is missing'],
  ['-alias:D01,""', '`-alias:D01,""` at 1: a value is missing beside a comma'],
  ['-label:""', '`-label:""` at 1: `` is no label: it must match ^[a-z][a-z0-9._-]{0,31}$'],
  ['alias:a,,b', '`alias:a,,b` at 1: a value is missing beside a comma'],
  ['alias:a, b', '`alias:a,` at 1: a value is missing beside a comma'],
  ['sdk=33,', '`sdk=33,` at 1: a value is missing beside a comma'],
  ['sdk>33,34', '`sdk>33,34` at 1: `>` takes one value'],
  ['seen<1h,2h', '`seen<1h,2h` at 1: `<` takes one value'],
  [
    'battery<20%',
    `\`battery<20%\` at 1: \`20%\` is no whole number from 0 to ${Number.MAX_SAFE_INTEGER}`,
  ],
  ...['-1', '1.5', '0x10', '1e3', '9007199254740993', '٣'].map((value): [string, string] => [
    `sdk>${value}`,
    `\`sdk>${value}\` at 1: \`${value}\` is no whole number from 0 to ${Number.MAX_SAFE_INTEGER}`,
  ]),
  ...['7', '7w', '1.5h', 'h', '-1h', '12345678901s'].map((value): [string, string] => [
    `uptime>${value}`,
    `\`uptime>${value}\` at 1: \`${value}\` is no duration, such as 90s, 30m, 12h or 7d`,
  ]),
  ['seen>36501d', '`seen>36501d` at 1: `36501d` is longer than 36500d'],
  ['device:D01', '`device:D01` at 1: `D01` is no device id, which is a UUID'],
  ['status:waning', '`status:waning` at 1: `waning` is none of ok, warn, error'],
  ['status:WARN', '`status:WARN` at 1: `WARN` is none of ok, warn, error; did you mean `warn`?'],
  ['push:life', '`push:life` at 1: `life` is none of live, none, dead, off; did you mean `live`?'],
  ['online:yes', '`online:yes` at 1: the value is true or false'],
  ['open:true,false', '`open:true,false` at 1: the value is true or false'],
  [
    'label:Site=zrh',
    '`label:Site=zrh` at 1: `Site` is no label: it must match ^[a-z][a-z0-9._-]{0,31}$',
  ],
  ...['=zrh', '"=zrh"', '=""'].map((value): [string, string] => [
    `label:${value}`,
    `\`label:${value}\` at 1: \`\` is no label: it must match ^[a-z][a-z0-9._-]{0,31}$`,
  ]),
  ['label:site,*', '`label:site,*` at 1: `*` is no label: it must match ^[a-z][a-z0-9._-]{0,31}$'],
  [
    'label:site!=zrh',
    '`label:site!=zrh` at 1: a label is compared by `=` only; write `-label:site=zrh`',
  ],
  [
    'label:site=zrh,ring=a',
    '`label:site=zrh,ring=a` at 1: one label a term; quote a value that holds `=`',
  ],
  ['package:app<4', '`package:app<4` at 1: `app` is no package, such as com.example.app'],
  ['package:com.*', '`package:com.*` at 1: `com.*` is no package, such as com.example.app'],
  [
    'package:com.a,com.b<4',
    '`package:com.a,com.b<4` at 1: `com.a,com.b` is no package, such as com.example.app',
  ],
  // the text as a whole
  ['open:true model:"R4S', '`"R4S` at 17: this quote is never closed'],
  ['model:"a" b"', '`"` at 12: this quote is never closed'],
  [
    'model:R4S\u00a0open:true',
    '`model:R4S\u00a0open:true` at 1: holds U+00A0, another kind of space; type a plain space, or quote the value',
  ],
  [
    'model:“R4S”',
    '`model:“R4S”` at 1: `“` is no plain quote; type a plain `"`, or quote the value',
  ],
  ['alias:a\tsdk>1', 'holds U+0009: control, direction and invisible characters are refused'],
  ['alias:\0', 'holds U+0000: control, direction and invisible characters are refused'],
  ['alias:\u202e', 'holds U+202E: control, direction and invisible characters are refused'],
  ['alias:\ud800', 'holds U+D800: control, direction and invisible characters are refused'],
  [`${'sdk>1 '.repeat(16)}open:true`, '`open:true` at 97: at most 16 terms, not 17'],
  ...[`alias:${'a*,'.repeat(64)}b*`, `-model:a${'*b'.repeat(65)}`, `label:x=${'*a,'.repeat(64)}b*`]
    .concat(`label:${'a,'.repeat(64)}b`, `package:${'a.b,'.repeat(64)}a.b`)
    .map((text): [string, string] => [text, tooMany(text, 1)]),
  [
    `${'alias:a*,*b '.repeat(15)}label:${'a,'.repeat(34)}b`,
    tooMany(`label:${'a,'.repeat(34)}b`, 181),
  ],
  [`alias:${'x'.repeat(1_019)}`, 'must be at most 1024 characters, not 1025'],
]

/** With 65 of them. */
function tooMany(term: string, at: number): string {
  const shown = term.length > 64 ? `${term.slice(0, 64)}…` : term
  const most = 'at most 64 `*`, label keys and packages in a selection'
  return `\`${shown}\` at ${at}: ${most}; give these devices one label and select by that`
}

function example(name: string): string {
  return new Map<string, string>(Object.entries(TERM_EXAMPLES)).get(name) ?? ''
}

t.test(
  'what is no selection is refused, and the message says where and what to write',
  async (t) => {
    for (const [text, message] of REFUSALS) {
      let refused: unknown
      try {
        parseSelection(text)
      } catch (error) {
        refused = error
      }
      t.ok(refused instanceof AppError && refused.code === 'invalid_field', JSON.stringify(text))
      const errors = refused instanceof AppError ? refused.errors : []
      t.strictSame(errors, [{ field: 'where', message }], JSON.stringify(text))
    }
  },
)

t.test('sixteen terms and 1,024 characters are taken', async (t) => {
  t.equal(parseSelection('sdk>1 '.repeat(16)).length, 16)
  t.equal(parseSelection(`alias:${'*'.repeat(1_018)}`).length, 1)
})

t.test('64 wildcards and names are taken, and any number of plain values', async (t) => {
  t.equal(
    parseSelection(`${'alias:a*,*b,*c*,d '.repeat(14)}label:a,b,c,d package:a.b,a.c,a.d,a.e`)
      .length,
    16,
  )
  t.equal(parseSelection(`alias:${'a,'.repeat(300)}*`).length, 1)
  t.equal(parseSelection(`sdk=${'3,'.repeat(300)}3 package:a.b=${'3,'.repeat(100)}3`).length, 2)
})
