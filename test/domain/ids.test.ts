/** Ids that we make, and ids and instants that we accept. */
import t from 'tap'
import { createUuidV7, isAlias, isRequestId, isUuid } from '../../src/domain/ids.ts'
import { parseInstant } from '../../src/domain/instants.ts'

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

t.test('a UUIDv7 carries its millisecond, its version and its variant', async (t) => {
  // The example of RFC 9562, appendix A.6: 2022-02-22T19:22:22Z.
  const newId = createUuidV7(() => 0x017f22e279b0)
  const ids = Array.from({ length: 5_000 }, newId)
  t.ok(ids.every((id) => UUID_V7.test(id)))
  t.ok(ids.every((id) => id.startsWith('017f22e2-79b0-7')))
  t.ok(ids.every(isUuid))
  t.ok(ids.every(isRequestId))
  t.equal(new Set(ids).size, ids.length, 'no two are equal within one millisecond')
})

t.test('later UUIDv7s sort after earlier ones, from 1970 to the year 10889', async (t) => {
  let nowMs = 0
  const newId = createUuidV7(() => nowMs)
  const ids: string[] = []
  for (nowMs of [0, 1, 255, 1e9, 1_700_000_000_000, 1_700_000_000_001, 2 ** 48 - 1]) {
    ids.push(newId())
  }
  t.same([...ids].sort(), ids)
  t.ok(ids.every((id) => UUID_V7.test(id)))
})

t.test('every random bit of a UUIDv7 takes both values', async (t) => {
  const newId = createUuidV7(() => 0)
  const digits = Array.from({ length: 2_000 }, () => newId().replaceAll('-', ''))
  for (let index = 13; index < 32; index += 1) {
    const seen = new Set(digits.map((id) => id[index]))
    t.equal(seen.size, index === 16 ? 4 : 16, `hex digit ${index}`)
  }
})

t.test('request ids are 1 to 128 of their characters', async (t) => {
  for (const good of ['a', 'A.b_c:d-9', '-', 'x'.repeat(128)]) t.ok(isRequestId(good), good)
  for (const bad of ['', 'x'.repeat(129), 'a b', 'a\n', 'a/b', 'é', 'a\0', 'a"', '\u2028']) {
    t.notOk(isRequestId(bad), JSON.stringify(bad).replaceAll('\u2028', 'U+2028'))
  }
})

t.test('aliases begin with a letter or digit and have at most 64 characters', async (t) => {
  for (const good of ['D', '0', 'D01', 'a._-', 'x'.repeat(64)]) t.ok(isAlias(good), good)
  for (const bad of ['', '-a', '.a', '_a', 'a:b', 'a b', 'a\n', 'é', 'x'.repeat(65)]) {
    t.notOk(isAlias(bad), JSON.stringify(bad))
  }
})

t.test('UUIDs are read in either case and in one form', async (t) => {
  const id = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f'
  for (const good of [id, id.toUpperCase(), '00000000-0000-0000-0000-000000000000']) {
    t.ok(isUuid(good), good)
  }
  for (const bad of [
    '',
    id.replaceAll('-', ''),
    `{${id}}`,
    ` ${id}`,
    `${id}\n`,
    `${id}0`,
    'null',
  ]) {
    t.notOk(isUuid(bad), JSON.stringify(bad))
  }
})

t.test('an RFC 3339 time with a zone is an instant', async (t) => {
  const instants = [
    ['2026-01-31T09:15:27.042Z', '2026-01-31T09:15:27.042Z'],
    ['2026-01-31T09:15:27Z', '2026-01-31T09:15:27.000Z'],
    ['2026-01-31t09:15:27z', '2026-01-31T09:15:27.000Z'],
    ['2026-01-31T09:15:27.123456789Z', '2026-01-31T09:15:27.123Z'],
    ['2026-01-31T09:15:27+02:00', '2026-01-31T07:15:27.000Z'],
    ['2026-01-31T00:30:00-05:30', '2026-01-31T06:00:00.000Z'],
    ['2024-02-29T23:59:59.999Z', '2024-02-29T23:59:59.999Z'],
    ['1970-01-01T00:00:00Z', '1970-01-01T00:00:00.000Z'],
    ['2999-12-31T23:59:59Z', '2999-12-31T23:59:59.000Z'],
  ] as const
  for (const [text, iso] of instants) t.equal(parseInstant(text)?.toISOString(), iso, text)
})

t.test('what is no such time is none, and is not rolled over', async (t) => {
  for (const text of [
    '',
    '1',
    'now',
    'tomorrow',
    'infinity',
    '2026-01-31',
    '2026-01-31T09:15:27',
    '2026-01-31 09:15:27Z',
    '2026-02-29T00:00:00Z',
    '2026-02-30T00:00:00Z',
    '2026-04-31T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-00-01T00:00:00Z',
    '2026-01-00T00:00:00Z',
    '2026-01-31T24:00:00Z',
    '2026-01-31T09:60:00Z',
    '2026-01-31T09:15:60Z',
    '2026-01-31T09:15:27+24:00',
    '2026-01-31T09:15:27+0200',
    '2026-01-31T09:15:27.Z',
    '2026-01-31T09:15:27.1234567890Z',
    '1969-12-31T23:59:59Z',
    '3000-01-01T00:00:00Z',
    '+12026-01-31T09:15:27Z',
    ' 2026-01-31T09:15:27Z',
    '2026-01-31T09:15:27Z\n',
  ]) {
    t.equal(parseInstant(text), undefined, JSON.stringify(text))
  }
})
