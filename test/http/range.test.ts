/** Range, If-Range and If-None-Match of a download: the table of RFC 9110. */
import t from 'tap'
import {
  contentRange,
  type Selection,
  selectBytes,
  unsatisfiedRange,
} from '../../src/http/range.ts'

const ETAG = '"5d41402abc4b2a76b9719d911017c592"'
const FILE = { etag: ETAG, sizeBytes: 10_000 }
const WHOLE: Selection = { kind: 'whole' }
const NOT_MODIFIED: Selection = { kind: 'not_modified' }
const UNSATISFIABLE: Selection = { kind: 'unsatisfiable' }

function part(firstByte: number, lastByte: number): Selection {
  return { kind: 'part', firstByte, lastByte }
}

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
    ['Tue, 15 Nov 1994 12:45:26 GMT', WHOLE],
    ['', WHOLE],
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

t.test('every part lies within the file', async (t) => {
  for (const sizeBytes of [0, 1, 2, 5]) {
    for (const first of ['', '0', '1', '4', '5', '6']) {
      for (const last of ['', '0', '1', '4', '5', '6']) {
        const range = `bytes=${first}-${last}`
        const selection = selectBytes('GET', { range }, { etag: ETAG, sizeBytes })
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
