/** Characters that act on a terminal, turn its text round or hide in it: no stored text that people read has one. */
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

/** Of each kind the first, the last and the worst. */
const UNSAFE = [
  ...['\0', '\u0007', '\u001b', '\r', '\u001f', '\u007f', '\u0080', '\u009b', '\u009f'],
  ...['\u061c', '\u200e', '\u200f', '\u202a', '\u202e', '\u2066', '\u2069', '\u2028', '\u2029'],
  ...[
    '\u00ad',
    '\u200b',
    '\u2060',
    '\u206f',
    '\ufeff',
    '\ufff9',
    '\u{e0001}',
    '\u{e007f}',
    '\ud800',
  ],
]
const LINES = ['\n', '\t']
/** Family by ZWJ, Persian by ZWNJ, a flag, a soft sign, wide characters. */
const SAFE = '👨\u200d👩\u200d👧 نمی\u200cخواهم 🇨🇭 ünï\u00a0日本語 हिन्दी \\ "'
const nameOf = (character: string) =>
  `U+${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}`

const service = await startService(t)
const db = await connect(t, service.databaseUrl)
const phone = await service.enroll('D01')

async function storedResult(requestId: string) {
  const response = await service.call('GET', `/admin/commands/${requestId}`)
  t.notMatch(response.text, /[\u007f-\u009f\u2028-\u202f]/u, 'nor has the answer one')
  return response.body.result
}

t.test('a heartbeat is stored without such a text, and says so', async (t) => {
  const fields = ['network_type', 'app_version', 'agent_version']
  for (const character of [...UNSAFE, ...LINES]) {
    const text = `x${character}y`
    const body = Object.fromEntries(fields.map((field) => [field, text]))
    const response = await service.call('POST', '/v1/heartbeat', { token: phone.token, body })
    t.match(response, { status: 200, body: { ok: true } }, nameOf(character))
    t.same(response.body.ignored, fields, nameOf(character))
  }
  const nested = { network: { transport: 'wifi\u202e' }, app_version: SAFE }
  const response = await service.call('POST', '/v1/heartbeat', { token: phone.token, body: nested })
  t.same(response.body.ignored, ['network.transport'])
  const shown = await service.call('GET', `/admin/devices/${phone.deviceId}`)
  t.match(shown.body.last_status, { network_type: null, app_version: SAFE })
})

t.test('a registration with one is refused and consumes no use', async (t) => {
  const made = await service.call('POST', '/v1/enroll-tokens', { body: { aliases: ['D02'] } })
  const token: string = made.body.tokens[0].token
  const fields = [
    'hardware_id',
    'model',
    'manufacturer',
    'android_version',
    'app_version',
    'fcm_token',
  ]
  for (const character of [...UNSAFE, ...LINES]) {
    for (const field of fields) {
      const body = { [field]: `x${character}` }
      const { status, body: problem } = await service.call('POST', '/v1/register', { token, body })
      const isRefused = status === 422 && problem.errors[0].field === field
      if (!isRefused || !problem.detail.includes(nameOf(character))) {
        t.fail(`${field} with ${nameOf(character)}: ${status}`)
      }
    }
  }
  const body = Object.fromEntries(fields.map((field) => [field, SAFE]))
  const enrolled = await service.call('POST', '/v1/register', { token, body })
  t.equal(enrolled.status, 201)
  const shown = await service.call('GET', `/admin/devices/${enrolled.body.device_id}`)
  t.match(shown.body, { hardware_id: SAFE, model: SAFE, manufacturer: SAFE })
})

t.test('a result is never lost for one: U+FFFD stands for it, lines and tabs stay', async (t) => {
  const order = async (requestId: string) => {
    const body = { alias: 'D01', action: 'ping', request_id: requestId }
    t.equal((await service.call('POST', '/admin/command', { body })).status, 202)
  }
  const report = async (body: object) => {
    const response = await service.call('POST', '/v1/action-result', { token: phone.token, body })
    t.match(response, { status: 200, body: { duplicate: false } })
  }
  for (const [index, character] of UNSAFE.entries()) {
    const id = `result-${index}`
    await order(id)
    const text = `a${character}b\tc\nd`
    await report({ request_id: id, outcome: 'ok', message: text, output: text })
    const stored = character === '\r' ? 'a\nb\tc\nd' : 'a\ufffdb\tc\nd'
    t.match(await storedResult(id), { message: stored, output: stored }, nameOf(character))
  }
  await order('result-lines')
  const [message, output] = [`${SAFE}\r\n1\n\r2`, `${'x'.repeat(1_999)}\u{1f4f1}y`]
  await report({ request_id: 'result-lines', outcome: 'ok', message, output })
  const result = await storedResult('result-lines')
  t.equal(result.message, `${SAFE}\n1\n\n2`)
  t.equal(result.output, `${'x'.repeat(1_999)}\ufffd`, 'also where 2,000 characters end')
})

t.test('what an admin writes is refused with one; notes and params may have lines', async (t) => {
  const raw = makeApk({ versionName: SAFE })
  const asks = (text: string) =>
    [
      ['note', 'POST', '/v1/enroll-tokens', { body: { aliases: [null], note: text } }],
      [
        'params.p',
        'POST',
        '/admin/command',
        { body: { alias: 'D01', action: 'ping', params: { p: text } } },
      ],
      [
        'version_name',
        'PUT',
        `/admin/apk/builds/b1?version_code=1&version_name=${encodeURIComponent(text)}`,
        { raw },
      ],
      [
        'ci_run_id',
        'PUT',
        `/admin/apk/builds/b1?version_code=1&ci_run_id=${encodeURIComponent(text)}`,
        { raw },
      ],
    ] as const
  // A URL cannot hold a lone surrogate.
  for (const character of UNSAFE.filter((unsafe) => unsafe !== '\ud800')) {
    for (const [field, method, path, options] of asks(`x${character}y`)) {
      const { status, body } = await service.call(method, path, options)
      const isRefused =
        status === 422 && body.code === 'invalid_field' && body.errors[0].field === field
      if (!isRefused) t.fail(`${field} with ${nameOf(character)}: ${status}`)
    }
  }
  for (const text of [...LINES.map((line) => `x${line}y`), SAFE]) {
    for (const [field, method, path, options] of asks(text)) {
      const { status } = await service.call(method, path, options)
      const isTaken = text === SAFE || field === 'note' || field === 'params.p'
      t.equal(status < 300, isTaken, `${field}: ${JSON.stringify(text)}`)
    }
  }
  const named = await service.call('POST', '/admin/command', {
    body: { alias: 'D01', action: 'ping', params: { '\u009b\u202e\u{e0041}': 'x' } },
  })
  t.equal(named.status, 422)
  t.match(named.text, 'params.\\u009b\\u202e\\udb40\\udc41', 'a name is given back harmless')
  t.equal(named.body.errors[0].field, 'params.\u009b\u202e\u{e0041}')
})

t.test('what was stored before is answered escaped', async (t) => {
  const old = `old\u009b31m\u007f\u202e\u2028\u200b${SAFE}`
  await db.query('update devices set model = $2 where device_id = $1', [phone.deviceId, old])
  for (const path of [`/admin/devices/${phone.deviceId}`, '/admin/devices?alias=D01']) {
    const { text, body } = await service.call('GET', path)
    t.equal((body.devices?.[0] ?? body).model, old, 'JSON says the same')
    t.match(text, 'old\\u009b31m\\u007f\\u202e\\u2028\\u200b')
    t.match(text, '👨\u200d👩', 'and no more than that is escaped')
  }
})
