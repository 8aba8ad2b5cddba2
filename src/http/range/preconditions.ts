/** The preconditions of a GET or HEAD of one file (RFC 9110, section 13). Pure. */
import { formatHttpDate, parseHttpDate } from './http-date.ts'

/** The file as it is now. */
export interface Representation {
  /** Strong and quoted: `"<sha256>"`. */
  readonly etag: string
  /** Epoch milliseconds; no other bytes were served at or after it. */
  readonly modifiedAtMs: number
  /** Different bytes never share a `modifiedAtMs`, so Last-Modified may be sent and named by If-Range. */
  readonly isDateStrong: boolean
}

/** As node:http provides them: repeated lines are joined by a comma. */
export interface ConditionHeaders {
  readonly 'if-match'?: string | undefined
  readonly 'if-none-match'?: string | undefined
  readonly 'if-modified-since'?: string | undefined
  readonly 'if-unmodified-since'?: string | undefined
  readonly 'if-range'?: string | string[] | undefined
}

const DECIDING = [
  'if-match',
  'if-none-match',
  'if-modified-since',
  'if-unmodified-since',
  'range',
] as const

export type Verdict = 'proceed' | 'not_modified' | 'precondition_failed'

interface Tag {
  readonly isWeak: boolean
  /** With its quotes. */
  readonly opaque: string
}

/** Whether the response depends on the file: 304, 412 or 416 instead of bytes. */
export function isConditional(
  headers: ConditionHeaders & { readonly range?: string | undefined },
): boolean {
  return DECIDING.some((name) => headers[name] !== undefined)
}

/** All but If-Range, in the order of 13.2.2. A malformed list matches nothing; an invalid date is ignored. */
export function judge(headers: ConditionHeaders, file: Representation, nowS: number): Verdict {
  const {
    'if-match': ifMatch,
    'if-none-match': ifNoneMatch,
    'if-modified-since': ifModifiedSince,
    'if-unmodified-since': ifUnmodifiedSince,
  } = headers
  const isUnmodified = (date: string | undefined) => {
    const dateS = date === undefined ? undefined : parseHttpDate(date, nowS)
    return dateS === undefined ? undefined : modifiedS(file) <= dateS
  }

  if (ifMatch !== undefined) {
    if (!matches(ifMatch, file.etag, 'strong')) return 'precondition_failed'
  } else if (isUnmodified(ifUnmodifiedSince) === false) {
    return 'precondition_failed'
  }

  if (ifNoneMatch !== undefined) {
    return matches(ifNoneMatch, file.etag, 'weak') ? 'not_modified' : 'proceed'
  }
  return isUnmodified(ifModifiedSince) === true ? 'not_modified' : 'proceed'
}

/** Whether If-Range lets Range count: it is absent, or names exactly this file (13.1.5). */
export function mayResume(
  ifRange: string | string[] | undefined,
  file: Representation,
  nowS: number,
): boolean {
  if (ifRange === undefined) return true
  const validator = String(ifRange).trim()
  if (validator === file.etag) return true
  return (
    lastModified(file, nowS) !== undefined && parseHttpDate(validator, nowS) === modifiedS(file)
  )
}

/** Value of `last-modified`; undefined if none may be sent (8.8.2.1: never a future time). */
export function lastModified(file: Representation, nowS: number): string | undefined {
  return file.isDateStrong && modifiedS(file) <= nowS ? formatHttpDate(modifiedS(file)) : undefined
}

/** Rounded up, so that bytes served earlier in the same second have another date. */
function modifiedS({ modifiedAtMs }: Representation): number {
  return Math.ceil(modifiedAtMs / 1000)
}

/** Strong and weak comparison: 8.8.3.2. */
function matches(list: string, etag: string, comparison: 'strong' | 'weak'): boolean {
  if (list.trim() === '*') return true
  return readTags(list).some(
    ({ isWeak, opaque }) => opaque === etag && !(isWeak && comparison === 'strong'),
  )
}

/** The tags of a list, which may hold empty elements (5.6.1.2); none if it is malformed. */
function readTags(list: string): readonly Tag[] {
  const element = /[\t ,]*(?:(?<weak>W\/)?(?<opaque>"[\x21\x23-\x7e\x80-\xff]*")[\t ]*)?(?:,|$)/y
  const tags: Tag[] = []
  while (element.lastIndex < list.length) {
    const found = element.exec(list)?.groups
    if (found === undefined) return []
    const { weak, opaque } = found
    if (opaque !== undefined) tags.push({ isWeak: weak !== undefined, opaque })
  }
  return tags
}
