/** Tables on a terminal: they fit it, and nothing that a phone says acts on it. */
import { spawnSync } from 'node:child_process'
import {
  appendFileSync,
  mkdtempSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable, Writable } from 'node:stream'
import t from 'tap'
import { runCommand } from '../../src/cli/run-verb.ts'
import { createTable } from '../../src/cli/terminal/table.ts'
import { createTerminal } from '../../src/cli/terminal/terminal.ts'
import { cells, clip, jsonLine, visible, wrap } from '../../src/cli/terminal/text.ts'
import { VERBS } from '../../src/cli/verbs.ts'
import { run } from './run.ts'

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

t.test('sentences are wrapped at spaces, with what follows indented', async (t) => {
  t.same(wrap('  a: bb ccc dddd', 12, 4), ['  a: bb ccc', '    dddd'])
  t.same(wrap('a long word: abcdefghijklmnop', 14, 2), ['a long word:', '  abcdefghijkl', '  mnop'])
  t.same(wrap('a: 小米手机小米手机小米手机', 16, 4), ['a:', '    小米手机小米', '    手机小米手机'])
  t.same(wrap('as it is', undefined, 4), ['as it is'])
  for (const width of [20, 40, 80]) {
    for (const line of wrap(`fact  ${'x y '.repeat(40)}${'模'.repeat(40)}`, width, 6)) {
      t.ok(cells(line) <= width, line)
    }
  }
})

t.test('help fits a narrow terminal', async (t) => {
  const { out } = await run(['send', '--help'], { width: 60 })
  for (const line of out.split('\n')) t.ok(cells(line) <= 60, line)
  t.match(out, /\n {2}--id ID {12}\S.*\n {21}\S/)
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

const line = (event: string, more: Readonly<Record<string, unknown>> = {}) =>
  JSON.stringify({
    ...{ ts: '2026-11-29T08:00:00.123Z', level: 'INFO', event, request_id: 'r-1', alias: null },
    ...more,
  })
const LOG = [
  line('http.request', { alias: 'STORE-1', method: 'POST', route: '/v1/heartbeat' }),
  line('push.resumed', { alias: 'STORE-2', request_id: 'r-2' }),
  line('push.paused', { level: 'WARN', http_request_id: 'r-3', note: `x${HOSTILE}` }),
  'npm notice \u001b[31mred',
]

t.test('tail shows log lines of stdin, filtered', async (t) => {
  const tail = async (...argv: readonly string[]) => {
    const { code, out, err } = await run(['tail', ...argv], { piped: `${LOG.join('\n')}\n` })
    t.same({ code, err }, { code: 0, err: '' })
    return out.split('\n').slice(0, -1)
  }
  const all = await tail()
  t.equal(all.length, 4)
  t.match(all[0], /^08:00:00\.123 INFO {2}http\.request +POST \/v1\/heartbeat STORE-1 /)
  t.equal(all[3], 'npm notice \\x1b[31mred')
  t.notMatch(all.join(''), /[\p{Cc}\u202e]/u)
  const events = async (...argv: readonly string[]) =>
    (await tail(...argv)).map((shown) => shown.split(/ +/)[2])
  t.same(await events('--event', 'push.'), ['push.resumed', 'push.paused'])
  t.same(await events('--event', 'push.resumed', '--event', 'http.request'), [
    'http.request',
    'push.resumed',
  ])
  t.same(await events('--level', 'warn'), ['push.paused'])
  t.same(await events('--phone', 'STORE-*'), ['http.request', 'push.resumed'])
  t.same(await events('--phone', 'D01,STORE-2'), ['push.resumed'])
  t.same(await events('--id', 'r-3'), ['push.paused'])
  t.same(
    JSON.parse((await tail('--event', 'push.resumed', '--json'))[0] ?? ''),
    JSON.parse(LOG[1] ?? ''),
  )
  t.equal((await tail('--json')).length, 3, 'JSON lines alone')
  for (const argv of [['--level', 'LOUD'], ['/nowhere']]) {
    t.match(await run(['tail', ...argv]), { code: 2, out: '' }, argv.join(' '))
  }
})

function runInto(streams: { stdout: Writable; stderr: Writable }, argv: readonly string[]) {
  const stdin = Readable.from([])
  const terminal = createTerminal({ stdin, ...streams, env: {} })
  const system = { env: {}, stdin, readFile: () => '', cwd: '/', now: () => new Date() }
  return runCommand(argv, { terminal, ...system, newId: () => '', version: () => '1' })
}

t.test('tail of a unit is what journalctl prints, and its refusal is a sentence', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'fleetloop-journal-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const program = `#!/bin/sh\n[ "$*" = "-o cat -n 5 -u fleetloop" ] || { echo "No such unit" >&2; exit 1; }\n`
  writeFileSync(join(directory, 'journalctl'), `${program}echo '${LOG[1]}'\n`, { mode: 0o755 })
  const env = { PATH: `${directory}:${process.env['PATH']}` }
  const argv = ['tail', '--once', '--lines', '5', '--unit']
  t.match(await run([...argv, 'fleetloop'], { env }), { code: 0, out: / INFO {2}push\.resumed / })
  t.match(await run([...argv, 'other'], { env }), { code: 2, err: 'journalctl: No such unit\n' })
  t.match(await run([...argv, 'x'], { env: { PATH: '/nowhere' } }), { code: 2, err: /: ENOENT\n$/ })
  t.match(await run([...argv, 'x', 'file'], { env }), { code: 2, err: 'Give FILE or --unit.\n' })
  t.match(await run(['tail'], { typed: '' }), { code: 2, err: /^Give FILE or --unit, or pipe / })
})

t.test(
  'tail follows a file, also one that is renamed or cut, until its reader has enough',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'fleetloop-tail-'))
    t.teardown(() => rmSync(directory, { recursive: true }))
    const file = join(directory, 'log')
    writeFileSync(file, `${Array.from({ length: 30 }, (_, n) => line(`e.${n}`)).join('\n')}\n`)
    const once = await run(['tail', file, '--once', '--lines', '2'])
    t.match(once.out, /^\S+ INFO {2}e\.28 .*\n\S+ INFO {2}e\.29 .*\n$/)

    const stdout = new PassThrough()
    const ended = runInto({ stdout, stderr: new PassThrough() }, ['tail', file, '--lines', '1'])
    let text = ''
    let count = 0
    for await (const chunk of stdout) {
      text += chunk
      count += String(chunk).split('\n').length - 1
      if (count === 1) appendFileSync(file, `${line('later.1')}\n${line('half').slice(0, 20)}`)
      if (count === 2) {
        // As logrotate does it; the service goes on with the old file until it is started again.
        renameSync(file, `${file}.1`)
        writeFileSync(file, '')
        appendFileSync(`${file}.1`, `${line('half').slice(20)}\n`)
      }
      if (count === 3) {
        appendFileSync(`${file}.1`, line('last.words'))
        appendFileSync(file, `${line('renamed.1')}\n`)
      }
      if (count === 5) truncateSync(file)
      if (count === 5) writeFileSync(file, `${line('cut.1')}\n`)
      if (count === 6) break // closes the stream
    }
    appendFileSync(file, `${line('nobody.reads')}\n`)
    t.equal(await ended, 0)
    t.match(text, /e\.29[^\n]*\n[^\n]*later\.1[^\n]*\n/)
    t.match(text, / half [^\n]*\n[^\n]*last\.words [^\n]*\n[^\n]*renamed\.1 [^\n]*\n[^\n]*cut\.1 /)
  },
)

t.test('a full disk is no success, a closed pipe is', async (t) => {
  for (const [code, exit] of [
    ['ENOSPC', 2],
    ['EPIPE', 0],
  ] as const) {
    const stdout = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error(code), { code })),
    })
    const stderr = new PassThrough()
    t.equal(await runInto({ stdout, stderr }, ['--version']), exit)
    t.equal(String(stderr.read() ?? ''), exit === 0 ? '' : `stdout cannot be written: ${code}\n`)
  }
})

t.test('refused before anything is asked: an unset variable, a secret as a name', async (t) => {
  const env = { FLEETLOOP_TOKEN: 'x', FLEETLOOP_URL: 'http://127.0.0.1:9' }
  for (const argv of [
    ['delete', ''],
    ['delete', ' '],
    ['label', '', 'a=b'],
    ['send', 'ring', ''],
  ]) {
    t.match(await run([...argv, '--yes'], { env }), { code: 2, err: /^WHERE is empty/ })
  }
  const file = { FLEETLOOP_TOKEN_FILE: '/nowhere' }
  const misspelt = { FLEETLOOP_ULR: 'x', FLEETLOOP_URL: '' }
  // Kubernetes sets the other.
  const secrets = { FLEETLOOP_PORT: 'tcp://', ADMIN_HMAC_SECRET: 'x', ADMIN_HMAC_SECRET_FILE: 'x' }
  for (const [line, err, more] of [
    ['send ring D01 --max-failed 5 --max-failed=50', '--max-failed is given twice.'],
    ['devices --url http://127.0.0.1:9 --url http://127.0.0.1:10', '--url is given twice.'],
    ['label D01 site=zrh site=bern', 'site= is given twice.'],
    ['label D01 site=zrh site=', 'site= is given twice.'],
    ['enroll D01 --label k=a --label l=a --label k=b', '--label k= is given twice.'],
    ['tail --event heartbeat', 'heartbeat is no event. Is heartbeat. meant?\n'],
    ['tail --event push. --event dispatch.snet', 'dispatch.snet is no event. Is dispatch.sent '],
    ['tail --event zzz.', 'zzz. is no event.\ndocs/reference/events.md lists them.'],
    ['devices', 'FLEETLOOP_ULR is unknown; did you mean FLEETLOOP_URL?', misspelt],
    ['devices', 'Both FLEETLOOP_TOKEN and FLEETLOOP_TOKEN_FILE are given: unset ', file],
    ['devices', 'Both ADMIN_HMAC_SECRET and ADMIN_HMAC_SECRET_FILE are given: unset ', secrets],
  ] as const) {
    const { code, err: said } = await run(line.split(' '), { env: { ...env, ...more } })
    t.same({ code, said: said.slice(0, err.length) }, { code: 2, said: err }, line)
  }
  const secret = `et_${'x'.repeat(43)}`
  for (const verb of ['revoke', 'tokens', 'device', 'devices', 'commands', 'cancel', 'job']) {
    const { code, err } = await run([verb, secret], { env })
    t.match({ code, err }, { code: 2, err: /^That is a token itself/ }, verb)
    t.notMatch(err, secret)
  }
})

t.test('completion: every verb and option, in bash as typed', async (t) => {
  const { out: bash } = await run(['completion', 'bash'])
  const completed = (...words: readonly string[]) => {
    const input = `${bash}\nCOMP_WORDS=(fleetloop "$@"); COMP_CWORD=$#; _fleetloop; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout, stderr } = spawnSync('bash', ['-s', '--', ...words], {
      input,
      encoding: 'utf8',
    })
    t.equal(stderr, '')
    return stdout.trimEnd().split('\n')
  }
  t.same(completed('se'), ['send'])
  t.same(
    completed('re'),
    VERBS.map(({ name }) => name).filter((name) => name.startsWith('re')),
  )
  t.same(completed('send', '--w'), ['--wait'])
  t.same(completed('commands', '--st'), ['--status'])
  t.same(completed('job', 'night', 'p'), ['pause'])
  const { out: zsh } = await run(['completion', 'zsh'])
  for (const { name, options } of VERBS) {
    for (const script of [bash, zsh]) {
      t.match(script, `    ${name}) `)
      for (const option of Object.keys(options)) t.match(script, `--${option}`)
    }
  }
  if (spawnSync('zsh', ['--version']).status === 0) {
    t.equal(spawnSync('zsh', ['-n'], { input: zsh }).status, 0)
  }
  t.match(await run(['completion', 'fish']), { code: 2, err: 'It takes bash or zsh.\n' })
})
