/** One line: valid JSON whatever comes in, keys in the contract's order. */
import t from 'tap'
import { EVENTS, type EventName } from '../../src/telemetry/log/events.ts'
import { levelOf, MAX_LINE_BYTES } from '../../src/telemetry/log/line.ts'
import { BACKGROUND, type Line } from '../../src/telemetry/log/log.ts'
import { createReadableBuilder } from '../../src/telemetry/log/readable-line.ts'
import { COMMON_KEYS } from '../helpers/lines.ts'
import { alwaysThere, build, draft, lineOf, NOW, parsed, request, textBuilder } from './lines.ts'

t.test('a heartbeat reads exactly as the contract says', async (t) => {
  const text = build(
    {
      event: 'heartbeat.ingest',
      fields: { status: 'ok', battery_pct: 80, network_type: 'wifi', uptime_s: 5, ignored: ['x'] },
    },
    'INFO',
    {
      requestId: 'r-1',
      route: '/v1/heartbeat',
      ip: '10.0.0.12',
      userAgent: 'okhttp/4.11.0',
      deviceId: 'd-1',
      alias: null,
    },
    { statusCode: 200, latencyMs: 1.23456 },
  )
  t.equal(
    text,
    '{"ts":"2026-01-31T09:15:27.042Z","level":"INFO","event":"heartbeat.ingest","request_id":"r-1",' +
      '"route":"/v1/heartbeat","ip":"10.0.0.12","user_agent":"okhttp/4.11.0","device_id":"d-1",' +
      '"alias":null,"status_code":200,"latency_ms":1.235,"status":"ok","battery_pct":80,' +
      '"network_type":"wifi","uptime_s":5,"ignored":["x"]}\n',
  )
})

t.test(
  'a line that stands for others ends with how many; any other is as without it',
  async (t) => {
    const line = request('not_found')
    const ending = { statusCode: 404, latencyMs: 1 }
    const text = (suppressed: number) =>
      build(line, 'WARN', BACKGROUND, ending, { isAnonymous: true, suppressed })
    const plain = build(line, 'WARN', BACKGROUND, ending)
    t.equal(text(0), plain)
    t.equal(text(1_234_567), plain.replace('}', ',"suppressed":1234567}'))
  },
)

t.test('every event has the common fields, then its own, all null where not known', async (t) => {
  for (const event of Object.keys(EVENTS) as EventName[]) {
    const line = lineOf(event, { secret: 'never' })
    const record = parsed(build(line, levelOf(line), BACKGROUND, undefined))
    t.same(Object.keys(record), [...COMMON_KEYS, ...alwaysThere(event)], event)
    t.equal(record['level'], EVENTS[event].levels[0])
    t.same(
      Object.values(record).slice(3),
      Object.values(record)
        .slice(3)
        .map(() => null),
    )
  }
})

/** tsc judges these before any test runs: where the error that is expected does not come, that is an error. */
const REFUSED: readonly Line[] = [
  // @ts-expect-error: no such event
  { event: 'push.unheard_of', fields: {} },
  // @ts-expect-error: no such field
  { event: 'push.token_dead', fields: { fcm_status: 'OK', extra: 'never' } },
  // @ts-expect-error: no such field, of an event that has none
  { event: 'push.resumed', fields: { extra: 'never' } },
  // @ts-expect-error: a field is missing
  { event: 'push.paused', fields: {} },
  // @ts-expect-error: a field of another kind
  { event: 'push.paused', fields: { reason: 1 } },
  // @ts-expect-error: never at this level
  { event: 'push.resumed', fields: {}, level: 'ERROR' },
]

t.test('what the table does not know does not compile, and is not written', async (t) => {
  const known = REFUSED.filter(({ event }) => Object.hasOwn(EVENTS, event))
  t.equal(known.length, REFUSED.length - 1)
  for (const line of known) {
    const text = build(line, levelOf(line), BACKGROUND, undefined)
    t.same(Object.keys(parsed(text)), [...COMMON_KEYS, ...alwaysThere(line.event)], line.event)
  }
})

t.test('any string comes back as it went in', async (t) => {
  const everyUnit = Array.from({ length: 0x10000 / 256 }, (_, block) =>
    String.fromCharCode(...Array.from({ length: 256 }, (_, unit) => block * 256 + unit)),
  )
  for (const text of [
    '',
    '"',
    '\\',
    '\n\r\t\0',
    '\u2028\u2029',
    '\ud800',
    '\udc00x',
    '😀',
    ...everyUnit,
  ]) {
    const line = build(request(text), 'WARN', { ...BACKGROUND, alias: text }, undefined)
    const record = parsed(line)
    t.ok(
      record['reason'] === text && record['alias'] === text,
      `from U+${text.charCodeAt(0).toString(16)}`,
    )
    t.notMatch(line.slice(0, -1), /[^ -~]/, 'printable ASCII only')
  }
})

t.test('what JSON cannot say becomes null or number text', async (t) => {
  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  const array: unknown[] = []
  array.push(array)
  const cases: [unknown, unknown][] = [
    [undefined, null],
    [Number.NaN, null],
    [Number.POSITIVE_INFINITY, null],
    [Symbol('s'), null],
    [() => 1, null],
    [12n, 12],
    [true, true],
    [-0, 0],
    [1e21, 1e21],
    [cycle, null],
    [array, null],
    [
      { a: 1n, b: 2n ** 64n + 1n, c: Number.NaN },
      { a: 1, b: '18446744073709551617', c: null },
    ],
    [
      ['a', undefined, '"', { b: ['\u2028'] }],
      ['a', null, '"', { b: ['\u2028'] }],
    ],
    [{ toJSON: () => undefined }, null],
    [
      {
        toJSON: () => {
          throw new Error('no')
        },
      },
      null,
    ],
  ]
  for (const [value, expected] of cases) {
    const record = parsed(build(request(value), 'WARN', BACKGROUND, undefined))
    t.same(record['reason'], expected, String(record['reason']))
  }
})

t.test('numbers come back as they went in', async (t) => {
  const powers = Array.from({ length: 17 }, (_, power) => 10 ** power)
  const around = powers.flatMap((power) => [power - 1, power, power + 1])
  const edges = [2 ** 31 - 1, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER, 1.5, 0.1 + 0.2, 5e-324]
  for (const value of [...around, ...edges].flatMap((number) => [number, -number])) {
    const line = lineOf('metrics.scrape', { series: value, bytes: 0 })
    const record = parsed(build(line, 'INFO', BACKGROUND, undefined))
    t.equal(record['series'], value === 0 ? 0 : value)
  }
})

t.test('latencies have three decimals', async (t) => {
  const cases: [number, string][] = [
    [0, '0.000'],
    [0.0004, '0.000'],
    [0.9996, '1.000'],
    [12.5, '12.500'],
    [1_999_999.9994, '1999999.999'],
    [5_000_000.25, '5000000.250'],
    [2_400_000.1234567, '2400000.123'],
    [-1, '-1.000'],
    [Number.NaN, 'null'],
  ]
  for (const [latencyMs, expected] of cases) {
    const line = build(request(null), 'INFO', BACKGROUND, { statusCode: 200, latencyMs })
    t.match(line, `"latency_ms":${expected},`)
    const own = lineOf('db.recovered', { down_ms: latencyMs })
    t.match(build(own, 'INFO', BACKGROUND, undefined), `"down_ms":${expected}}`)
  }
})

t.test('strings are cut: the user agent at 256, never through a pair of surrogates', async (t) => {
  const cut = (userAgent: string) =>
    parsed(build(request(null), 'INFO', { ...BACKGROUND, userAgent }, undefined))['user_agent']
  t.equal(cut('a'.repeat(256)), 'a'.repeat(256))
  t.equal(cut('a'.repeat(257)), 'a'.repeat(256))
  t.equal(cut(`${'a'.repeat(255)}😀`), 'a'.repeat(255))
  t.equal(cut(`${'a'.repeat(254)}😀b`), `${'a'.repeat(254)}😀`)
})

t.test('no line is longer than 64 KiB', async (t) => {
  const hostile = ['\0', '€', 'a', '\ud800'].map((text) => text.repeat(100_000))
  for (const text of hostile) {
    const context = { ...BACKGROUND, requestId: text, route: text, userAgent: text, alias: text }
    for (const value of [text, [text, text], Array(1000).fill(text), { text }]) {
      const fields = { method: value, error: value, stack: value }
      const line = build(lineOf('http.error', fields), 'ERROR', context, undefined)
      t.ok(line.length <= MAX_LINE_BYTES)
      t.same(Object.keys(parsed(line)), [...COMMON_KEYS, 'method', 'error', 'stack'])
    }
  }
})

t.test('the timestamp follows the clock, forwards and backwards', async (t) => {
  let now = NOW
  const ticking = textBuilder(() => now)
  const edges = [8.64e15, 8.64e15 + 1, Number.NaN] // of a Date
  for (now of [NOW, NOW, NOW + 1, NOW + 958, NOW + 957, NOW - 86_400_000, 0, -1, ...edges]) {
    const expected = new Date(Math.abs(now) <= 8.64e15 ? now : 0).toISOString()
    t.equal(parsed(ticking(request(null), 'INFO', BACKGROUND, undefined))['ts'], expected)
  }
})

t.test('a line for a person: what counts, in columns', async (t) => {
  const build = createReadableBuilder(draft, () => NOW, false)
  const show = (...line: Parameters<typeof build>) => draft.toString('utf8', 0, build(...line))
  const context = { ...BACKGROUND, requestId: 'r-1', route: '/v1/register', ip: '127.0.0.1' }
  const ended = { statusCode: 201, latencyMs: 29.556 }
  for (const [line, level, about, ending, shown] of [
    [
      lineOf('register.success', { token_id: '989a', result: 'created' }),
      'INFO',
      { ...context, deviceId: 'd-1', alias: 'D01' },
      ended,
      '09:15:27.042 INFO  register.success     201   29.6 ms  /v1/register D01 token_id=989a result=created r-1\n',
    ],
    [
      lineOf('register.request', { token_id: null, result: null }),
      'INFO',
      { ...context, deviceId: 'd-1', ip: '203.0.113.7' },
      undefined,
      '09:15:27.042 INFO  register.request                    /v1/register d-1 203.0.113.7 r-1\n',
    ],
    [
      lineOf('service.start', { version: '1', instance_id: null, config: { a: 'x'.repeat(200) } }),
      'INFO',
      BACKGROUND,
      undefined,
      '09:15:27.042 INFO  service.start        version=1 config={…}\n',
    ],
    [
      lineOf('http.error', { method: 'GET', error: 'internal', stack: 'Error: no\n    at x.ts:1' }),
      'ERROR',
      context,
      { statusCode: 500, latencyMs: 1 },
      '09:15:27.042 ERROR http.error           500    1.0 ms  GET /v1/register error=internal r-1\n    Error: no\n        at x.ts:1\n',
    ],
  ] as const) {
    t.equal(show(line, level, about, ending), shown)
  }
})

t.test(
  'nothing that a line holds acts on a terminal, and colors end where they began',
  async (t) => {
    for (const isColored of [false, true]) {
      const build = createReadableBuilder(draft, () => NOW, isColored)
      const hostile = 'a\u001b[2J\r\n\u009b1m\u202e\u2028\ud800 "b"\u{e0041}é🙂'
      const context = {
        ...BACKGROUND,
        requestId: hostile,
        route: hostile,
        ip: hostile,
        alias: hostile,
      }
      const sizeBytes = build(request(hostile), 'WARN', context, { statusCode: 1, latencyMs: 2 })
      const shown = draft.toString('utf8', 0, sizeBytes)
      const colors = ['\u001b[33m', '\u001b[2m', '\u001b[0m']
      const plain = colors.reduce((text, color) => text.replaceAll(color, ''), shown)
      t.equal(plain !== shown, isColored)
      t.match(plain, /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]+\n$/u)
      t.match(plain, 'reason="a\\u001b[2J\\r\\n\\u009b1m\\u202e\\u2028\\ud800 \\"b\\"\\ue0041é🙂"')
    }
  },
)

t.test('a readable line is no longer than a line may be', async (t) => {
  const build = createReadableBuilder(draft, () => NOW, true)
  const much = '\u202e'.repeat(9_000)
  const context = { ...BACKGROUND, requestId: much, route: much, ip: much, alias: much }
  const sizeBytes = build(request(much), 'WARN', context, undefined)
  t.ok(sizeBytes <= MAX_LINE_BYTES)
  t.equal(draft[sizeBytes - 1], 0x0a)
})
