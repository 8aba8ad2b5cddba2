/** Range and every precondition of a download: the tables of RFC 9110. */
import t from 'tap'
import { formatHttpDate, parseHttpDate } from '../../src/http/range/http-date.ts'
import { lastModified } from '../../src/http/range/preconditions.ts'
import {
  contentRange,
  type Selection,
  selectBytes as selectBytesAt,
  unsatisfiedRange,
} from '../../src/http/range/range.ts'
import {
  BEFORE,
  ETAG,
  EXACT,
  FAILED,
  FILE,
  LATER,
  MODIFIED_S,
  NO_DATES,
  NOT_MODIFIED,
  NOW_S,
  part,
  selectBytes,
  UNSATISFIABLE,
  WHOLE,
} from './range-headers.ts'

t.test('Range selects bytes, both ends inclusive (RFC 9110, 14.1.2)', async (t) => {
  const cases: readonly (readonly [range: string | undefined, expected: Selection])[] = [
    [undefined, WHOLE],
    ['bytes=0-499', part(0, 499)],
    ['bytes=500-999', part(500, 999)],
    ['bytes=0-0', part(0, 0)],
    ['bytes=-500', part(9500, 9999)],
    ['bytes=-1', part(9999, 9999)],
    ['bytes=9500-', part(9500, 9999)],
    ['bytes=0-', part(0, 9999)],
    ['bytes=9999-', part(9999, 9999)],
    // Longer than the file: cut at its end.
    ['bytes=9990-20000', part(9990, 9999)],
    ['bytes=0-99999999999999999999999', part(0, 9999)],
    ['bytes=-20000', part(0, 9999)],
    [`bytes=-${'9'.repeat(400)}`, part(0, 9999)],
    // Spelling.
    ['BYTES=0-1', part(0, 1)],
    ['bytes= 0-1 ', part(0, 1)],
    ['bytes=,0-1,', part(0, 1)],
    ['bytes=0000-0001', part(0, 1)],
    // Nothing of it lies within the file.
    ['bytes=10000-', UNSATISFIABLE],
    ['bytes=10000-10001', UNSATISFIABLE],
    [`bytes=${'9'.repeat(400)}-`, UNSATISFIABLE],
    ['bytes=-0', UNSATISFIABLE],
    // Several ranges: the whole file.
    ['bytes=0-0,-1', WHOLE],
    ['bytes=500-600,601-999', WHOLE],
    ['bytes=20000-,30000-', WHOLE],
    // No range at all: ignored.
    ['bytes=2-1', WHOLE],
    ['bytes=-', WHOLE],
    ['bytes=', WHOLE],
    ['bytes', WHOLE],
    ['bytes=,', WHOLE],
    ['bytes=a-b', WHOLE],
    ['bytes=0x0-0x1', WHOLE],
    ['bytes=1.5-2', WHOLE],
    ['bytes=--1', WHOLE],
    ['bytes=+1-2', WHOLE],
    ['bytes=1 - 2', WHOLE],
    ['bytes=0-1-2', WHOLE],
    ['bytes=\u0661-\u0662', WHOLE],
    ['items=0-1', WHOLE],
    ['0-1', WHOLE],
    ['', WHOLE],
  ]
  for (const [range, expected] of cases) {
    t.strictSame(selectBytes('GET', { range }, FILE), expected, String(range).slice(0, 40))
  }
})

t.test('Range counts with GET only (14.2)', async (t) => {
  t.strictSame(selectBytes('HEAD', { range: 'bytes=0-1' }, FILE), WHOLE)
  t.strictSame(selectBytes('HEAD', { range: 'bytes=10000-' }, FILE), WHOLE)
})

t.test('If-Range lets Range through on a strong match only (13.1.5)', async (t) => {
  const cases: readonly (readonly [ifRange: string | undefined, expected: Selection])[] = [
    [undefined, part(0, 1)],
    [ETAG, part(0, 1)],
    [` ${ETAG} `, part(0, 1)],
    [`W/${ETAG}`, WHOLE],
    ['"another"', WHOLE],
    ['*', WHOLE],
    [ETAG.slice(1, -1), WHOLE],
    [`"another", ${ETAG}`, WHOLE],
    ['', WHOLE],
    // A date: only exactly Last-Modified.
    ...EXACT.map((date) => [date, part(0, 1)] as const),
    ...[...BEFORE, ...LATER, ...NO_DATES].map((date) => [date, WHOLE] as const),
  ]
  for (const [ifRange, expected] of cases) {
    const headers = { range: 'bytes=0-1', 'if-range': ifRange }
    t.strictSame(selectBytes('GET', headers, FILE), expected, String(ifRange))
  }
  const stale = { range: 'bytes=10000-', 'if-range': '"another"' }
  t.strictSame(selectBytes('GET', stale, FILE), WHOLE, 'a range of another file is no 416')
  t.strictSame(
    selectBytes('GET', { 'if-range': '"another"' }, FILE),
    WHOLE,
    'nothing without Range',
  )
})

t.test('If-None-Match compares weakly, and comes before Range (13.1.2, 13.2.2)', async (t) => {
  const cases: readonly (readonly [ifNoneMatch: string, expected: Selection])[] = [
    [ETAG, NOT_MODIFIED],
    [`W/${ETAG}`, NOT_MODIFIED],
    ['*', NOT_MODIFIED],
    [`"a", "b,c", ${ETAG}`, NOT_MODIFIED],
    [`"a",W/${ETAG}`, NOT_MODIFIED],
    ['"another"', WHOLE],
    ['""', WHOLE],
    ['', WHOLE],
    [ETAG.slice(1, -1), WHOLE],
    [`"*"`, WHOLE],
    ['"', WHOLE],
    // A malformed list names nothing.
    [`w/${ETAG}`, WHOLE],
    [`"a" ${ETAG}`, WHOLE],
    [`"a"b, ${ETAG}`, WHOLE],
    [`, ,\t${ETAG} ,`, NOT_MODIFIED],
    [`*, ${ETAG}`, WHOLE],
  ]
  for (const method of ['GET', 'HEAD']) {
    for (const [ifNoneMatch, expected] of cases) {
      const headers = { 'if-none-match': ifNoneMatch }
      t.strictSame(selectBytes(method, headers, FILE), expected, `${method} ${ifNoneMatch}`)
    }
  }
  const both = { 'if-none-match': ETAG, range: 'bytes=10000-' }
  t.strictSame(selectBytes('GET', both, FILE), NOT_MODIFIED)
  const changed = { 'if-none-match': '"another"', range: 'bytes=0-1' }
  t.strictSame(selectBytes('GET', changed, FILE), part(0, 1))
})

t.test('If-Match compares strongly, and comes first (13.1.1, 13.2.2)', async (t) => {
  const cases: readonly (readonly [ifMatch: string, expected: Selection])[] = [
    [ETAG, WHOLE],
    [` ${ETAG} `, WHOLE],
    ['*', WHOLE],
    [`"a", "b,c", ${ETAG}`, WHOLE],
    [`, ,\t${ETAG} ,`, WHOLE],
    [`W/${ETAG}, ${ETAG}`, WHOLE],
    [`W/${ETAG}`, FAILED],
    ['"another"', FAILED],
    ['""', FAILED],
    ['', FAILED],
    [',', FAILED],
    ['"*"', FAILED],
    [ETAG.slice(1, -1), FAILED],
    // A malformed list names nothing.
    [`w/${ETAG}`, FAILED],
    [`"a" ${ETAG}`, FAILED],
    [`x${ETAG}`, FAILED],
    [`"a"b, ${ETAG}`, FAILED],
    [`*, "another"`, FAILED],
  ]
  for (const method of ['GET', 'HEAD']) {
    for (const [ifMatch, expected] of cases) {
      const what = `${method} ${ifMatch}`
      t.strictSame(selectBytes(method, { 'if-match': ifMatch }, FILE), expected, what)
    }
  }
  t.strictSame(selectBytes('GET', { 'if-match': ETAG, range: 'bytes=0-1' }, FILE), part(0, 1))
  const beyond = { 'if-match': '"another"', range: 'bytes=10000-', 'if-range': '"another"' }
  t.strictSame(selectBytes('GET', beyond, FILE), FAILED, 'before Range and If-Range')
  const cached = { 'if-match': '"another"', 'if-none-match': ETAG }
  t.strictSame(selectBytes('GET', cached, FILE), FAILED, 'before If-None-Match')
})

t.test('dates compare by the second, in all formats, and only without tags', async (t) => {
  for (const method of ['GET', 'HEAD']) {
    for (const [dates, ifUnmodifiedSince, ifModifiedSince] of [
      [EXACT, WHOLE, NOT_MODIFIED],
      [LATER, WHOLE, NOT_MODIFIED],
      [BEFORE, FAILED, WHOLE],
      [NO_DATES, WHOLE, WHOLE],
    ] as const) {
      for (const date of dates) {
        const unmodified = selectBytes(method, { 'if-unmodified-since': date }, FILE)
        t.strictSame(unmodified, ifUnmodifiedSince, `${method} If-Unmodified-Since: ${date}`)
        const modified = selectBytes(method, { 'if-modified-since': date }, FILE)
        t.strictSame(modified, ifModifiedSince, `${method} If-Modified-Since: ${date}`)
      }
    }
  }
  const [before = '', later = ''] = [BEFORE[0], LATER[0]]
  for (const [headers, expected, why] of [
    [{ 'if-match': ETAG, 'if-unmodified-since': before }, WHOLE, 'If-Match counts alone'],
    [{ 'if-match': '"x"', 'if-unmodified-since': later }, FAILED, 'If-Match counts alone'],
    [{ 'if-none-match': '"x"', 'if-modified-since': later }, WHOLE, 'If-None-Match counts alone'],
    [{ 'if-none-match': ETAG, 'if-modified-since': before }, NOT_MODIFIED, 'so too'],
    [{ 'if-unmodified-since': before, 'if-none-match': ETAG }, FAILED, 'the failure comes first'],
    [{ 'if-unmodified-since': before, 'if-modified-since': later }, FAILED, 'so too'],
  ] as const) {
    t.strictSame(selectBytes('GET', headers, FILE), expected, why)
  }
})

t.test('Last-Modified is the next whole second, once that has come', async (t) => {
  const [exact = ''] = EXACT
  const file = { ...FILE, modifiedAtMs: MODIFIED_S * 1000 - 999 }
  t.equal(lastModified(file, MODIFIED_S - 1), undefined)
  t.equal(lastModified(file, MODIFIED_S), exact)
  const since = { 'if-modified-since': BEFORE[0], range: 'bytes=0-1' }
  t.strictSame(selectBytes('GET', since, file), part(0, 1), 'other bytes in the same second')
  const weak = { ...file, isDateStrong: false }
  t.equal(lastModified(weak, NOW_S), undefined)
  const resume = { 'if-range': exact, range: 'bytes=0-1' }
  t.strictSame(selectBytes('GET', resume, file), part(0, 1))
  t.strictSame(selectBytes('GET', resume, weak), WHOLE)
  t.strictSame(selectBytesAt('GET', resume, file, MODIFIED_S - 1), WHOLE, 'of a second to come')
})

t.test('a year of two digits is at most 50 years ahead (5.6.7)', async (t) => {
  const nowS = Date.UTC(2026, 6, 1) / 1000
  for (const [date, expected] of [
    ['Sunday, 06-Nov-94 08:49:37 GMT', '1994-11-06T08:49:37.000Z'],
    ['Monday, 01-Jun-76 00:00:00 GMT', '2076-06-01T00:00:00.000Z'],
    ['Thursday, 01-Jul-77 00:00:00 GMT', '1977-07-01T00:00:00.000Z'],
    ['Tuesday, 31-Dec-76 00:00:00 GMT', '1976-12-31T00:00:00.000Z'],
    ['Saturday, 01-Jan-00 00:00:00 GMT', '2000-01-01T00:00:00.000Z'],
    ['Tuesday, 29-Feb-00 00:00:00 GMT', '2000-02-29T00:00:00.000Z'],
  ] as const) {
    t.equal(new Date((parseHttpDate(date, nowS) ?? Number.NaN) * 1000).toISOString(), expected)
  }
  t.equal(parseHttpDate('Monday, 29-Feb-01 00:00:00 GMT', nowS), undefined)
  const longAgo = parseHttpDate('Mon, 01 Jan 0001 00:00:00 GMT', nowS) ?? Number.NaN
  t.equal(new Date(longAgo * 1000).toISOString(), '0001-01-01T00:00:00.000Z')
  for (const epochS of [0, MODIFIED_S, nowS]) {
    t.equal(parseHttpDate(formatHttpDate(epochS), nowS), epochS)
  }
})

t.test('every part lies within the file', async (t) => {
  for (const sizeBytes of [0, 1, 2, 5]) {
    for (const first of ['', '0', '1', '4', '5', '6']) {
      for (const last of ['', '0', '1', '4', '5', '6']) {
        const range = `bytes=${first}-${last}`
        const selection = selectBytes('GET', { range }, { ...FILE, sizeBytes })
        if (selection.kind !== 'part') continue
        const { firstByte, lastByte } = selection
        t.ok(
          0 <= firstByte && firstByte <= lastByte && lastByte < sizeBytes,
          `${range} of ${sizeBytes}`,
        )
      }
    }
  }
})

t.test('content-range names the part, or only the size', async (t) => {
  t.equal(contentRange(0, 499, 10_000), 'bytes 0-499/10000')
  t.equal(unsatisfiedRange(10_000), 'bytes */10000')
})
