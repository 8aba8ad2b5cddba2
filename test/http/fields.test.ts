/** unknown → typed value: what the strict readers take, and which field they name when they refuse. */
import t from 'tap'
import {
  asObject,
  field,
  intField,
  optionalString,
  optionalText,
  queryEnum,
  queryInt,
  queryString,
  queryTimeRange,
  queryUuid,
  requiredString,
} from '../../src/http/fields.ts'

const PERCENT = { min: 0, max: 100 }
const refusal = (name: string) => ({ code: 'invalid_field', errors: [{ field: name }] })

t.test('only an object is a body', async (t) => {
  t.same(asObject({ a: 1 }), { a: 1 })
  for (const body of [undefined, null, [], 'text', 1, true]) {
    t.throws(() => asObject(body), { code: 'bad_json' }, JSON.stringify(body) ?? 'undefined')
  }
})

t.test('a field is an own one, and null is absent', async (t) => {
  const polluted = JSON.parse('{"__proto__":{"admin":true},"a":null,"b":0,"constructor":"own"}')
  t.equal(field(polluted, 'admin'), undefined)
  t.equal(field(polluted, 'toString'), undefined)
  t.equal(field(polluted, 'hasOwnProperty'), undefined)
  t.equal(field(polluted, 'a'), undefined)
  t.equal(field(polluted, 'b'), 0)
  t.equal(field(polluted, 'constructor'), 'own')
  t.equal(field(Object.create(null), 'a'), undefined)
})

t.test('text is stored as it came or refused', async (t) => {
  t.equal(optionalString({ a: 'x' }, 'a', 1), 'x')
  t.equal(optionalString({ a: '' }, 'a', 1), '')
  t.equal(optionalString({ a: null }, 'a', 1), undefined)
  t.equal(optionalString({}, 'a', 1), undefined)
  t.equal(optionalString({ a: 'D01' }, 'a', 9, /^[A-Z0-9]+$/), 'D01')
  for (const a of [1, true, [], {}, 'xx', '\0', '\ud800', 'y']) {
    t.throws(() => optionalString({ a }, 'a', 1, /^x$/), refusal('a'))
  }
  for (const a of ['a\nb', '\t', '\u009b', '\u202e']) {
    t.throws(() => optionalString({ a }, 'a', 9), refusal('a'), JSON.stringify(a))
  }
  t.equal(optionalText({ a: 'a\n\tb' }, 'a', 4), 'a\n\tb')
  for (const a of ['\r\n', '\u009b', 'a\n\u202e', '\ud800', 5, 'xx'.repeat(5)]) {
    t.throws(() => optionalText({ a }, 'a', 9), refusal('a'), JSON.stringify(a))
  }
  for (const body of [{}, { a: null }, { a: '' }, { a: 5 }]) {
    t.throws(() => requiredString(body, 'a', 5), refusal('a'))
  }
})

t.test('a number is whole, safe and within its range', async (t) => {
  for (const value of [0, 100, 85.0, 1e2]) t.equal(intField({ n: value }, 'n', PERCENT, 7), value)
  t.equal(intField({}, 'n', PERCENT, 7), 7)
  t.equal(intField({ n: null }, 'n', PERCENT, 7), 7)
  const bad = [-1, 101, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '5', true, [], {}]
  for (const n of bad) t.throws(() => intField({ n }, 'n', PERCENT, 7), refusal('n'), String(n))
})

t.test('the query is read as strictly as a body', async (t) => {
  const query = (text: string) => new URLSearchParams(text)
  t.equal(queryInt(query('n=5'), 'n', PERCENT, 7), 5)
  t.equal(queryInt(query(''), 'n', PERCENT, 7), 7)
  for (const text of [
    'n=',
    'n=-1',
    'n=101',
    'n=1.5',
    'n=1e1',
    'n=0x10',
    'n=%205',
    'n=9'.repeat(20),
  ]) {
    t.throws(() => queryInt(query(text), 'n', PERCENT, 7), refusal('n'), text)
  }
  t.equal(queryString(query('a=x%20y'), 'a', 3), 'x y')
  t.equal(queryString(query(''), 'a', 3), undefined)
  for (const text of ['a=xxxx', 'a=%00']) {
    t.throws(() => queryString(query(text), 'a', 3), refusal('a'), text)
  }
  t.equal(queryEnum(query('s=on'), 's', ['on', 'off']), 'on')
  t.equal(queryEnum(query(''), 's', ['on', 'off']), undefined)
  for (const text of ['s=', 's=ON', 's=toString']) {
    t.throws(() => queryEnum(query(text), 's', ['on', 'off']), refusal('s'), text)
  }
  const id = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f'
  t.equal(queryUuid(query(`d=${id}`), 'd'), id)
  t.equal(queryUuid(query(''), 'd'), undefined)
  for (const text of ['d=', 'd=1', `d=${id}0`]) {
    t.throws(() => queryUuid(query(text), 'd'), refusal('d'), text)
  }
})

t.test('times keep their microseconds, and a stretch does not end before it begins', async (t) => {
  const query = (text: string) => queryTimeRange(new URLSearchParams(text))
  t.same(query(''), { since: null, until: null })
  for (const [text, since] of [
    ['2026-01-31T09:15:00Z', '2026-01-31T09:15:00.000000Z'],
    ['2026-01-31T09:15:00.123456Z', '2026-01-31T09:15:00.123456Z'],
    ['2026-01-31t10:15:00.1%2b01:00', '2026-01-31T09:15:00.100000Z'],
    ['2026-01-31T09:15:00.999999999Z', '2026-01-31T09:15:00.999999Z'],
    ['2026-01-31T09:15:00.5-23:59', '2026-02-01T09:14:00.500000Z'],
  ] as const) {
    t.same(query(`since=${text}`), { since, until: null }, text)
    t.same(query(`since=${text}&until=${text}`), { since, until: since }, text)
  }
  for (const text of ['since=', 'since=now', 'since=2026-02-30T00:00:00Z']) {
    t.throws(() => query(text), refusal('since'), text)
  }
  const swapped = 'since=2026-01-31T09:15:00.000001Z&until=2026-01-31T10:15:00%2b01:00'
  const errors = [{ field: 'since' }, { field: 'until' }]
  t.throws(() => query(swapped), { code: 'invalid_field', errors })
})
