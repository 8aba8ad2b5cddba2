/** A file, its dates and a request for it: for the tables of RFC 9110. */
import {
  type RangeHeaders,
  type Selection,
  selectBytes as selectBytesAt,
} from '../../src/http/range/range.ts'

export const ETAG = '"5d41402abc4b2a76b9719d911017c592"'
/** 1994-11-06T08:49:37Z, the RFC's example. */
export const MODIFIED_S = 784_111_777
export const NOW_S = MODIFIED_S + 86_400
export const FILE = {
  etag: ETAG,
  sizeBytes: 10_000,
  modifiedAtMs: MODIFIED_S * 1000,
  isDateStrong: true,
}
export const EXACT = [
  'Sun, 06 Nov 1994 08:49:37 GMT',
  'Sunday, 06-Nov-94 08:49:37 GMT',
  'Sun Nov  6 08:49:37 1994',
]
export const BEFORE = [
  'Sun, 06 Nov 1994 08:49:36 GMT',
  'Sunday, 06-Nov-94 08:49:36 GMT',
  'Sun Nov  6 08:49:36 1994',
]
export const LATER = [
  'Sun, 06 Nov 1994 08:49:38 GMT',
  'Saturday, 07-Nov-99 08:49:37 GMT',
  'Fri Dec 31 23:59:60 2094',
]
export const NO_DATES = [
  '',
  'yesterday',
  '1994-11-06T08:49:37Z',
  '784111777',
  'sun, 06 nov 1994 08:49:37 gmt',
  'Sun, 6 Nov 1994 08:49:37 GMT',
  'Sun, 06 Nov 1994 08:49:37 UTC',
  'Sun, 06 Nov 1994 08:49:37 +0000',
  'Sun, 06 Nov 94 08:49:37 GMT',
  'Sun, 31 Feb 1994 08:49:37 GMT',
  'Sun, 00 Nov 1994 08:49:37 GMT',
  'Sun, 06 Nov 1994 24:00:00 GMT',
  'Sun, 06 Nov 1994 08:60:00 GMT',
  'Sun, 06 Nov 1994 08:49:61 GMT',
  'Sun Nov 6 08:49:37 1994',
  // Two lines, as node:http joins them.
  'Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT',
]

export function selectBytes(
  method: string,
  headers: RangeHeaders,
  file: Parameters<typeof selectBytesAt>[2],
): Selection {
  return selectBytesAt(method, headers, file, NOW_S)
}
export const WHOLE: Selection = { kind: 'whole' }
export const NOT_MODIFIED: Selection = { kind: 'not_modified' }
export const UNSATISFIABLE: Selection = { kind: 'unsatisfiable' }
export const FAILED: Selection = { kind: 'precondition_failed' }

export function part(firstByte: number, lastByte: number): Selection {
  return { kind: 'part', firstByte, lastByte }
}
