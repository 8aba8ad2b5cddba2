/**
 * Which bytes of one file a GET or HEAD asks for: If-None-Match, If-Range and Range (RFC 9110,
 * sections 13 and 14). Pure. Ignored as the RFC allows: more than one range (the whole file is sent),
 * and dates (files have an ETag and no Last-Modified). Ignored against the RFC (13.1.1): If-Match,
 * since the API knows no 412.
 */

/** The file as it stands now. */
export interface Representation {
  /** Strong and quoted: `"<sha256>"`. */
  readonly etag: string
  readonly sizeBytes: number
}

/** As node:http gives them. */
export interface RangeHeaders {
  readonly range?: string | undefined
  readonly 'if-range'?: string | string[] | undefined
  readonly 'if-none-match'?: string | undefined
}

export type Selection =
  /** 304 */
  | { readonly kind: 'not_modified' }
  /** 200 */
  | { readonly kind: 'whole' }
  /** 206; both bytes inclusive, counted from 0. */
  | { readonly kind: 'part'; readonly firstByte: number; readonly lastByte: number }
  /** 416 */
  | { readonly kind: 'unsatisfiable' }

const WHOLE: Selection = { kind: 'whole' }

/** In the RFC's order (13.2.2): If-None-Match first, then Range, if If-Range lets it. */
export function selectBytes(
  method: string,
  headers: RangeHeaders,
  file: Representation,
): Selection {
  const { range, 'if-range': ifRange, 'if-none-match': ifNoneMatch } = headers
  if (ifNoneMatch !== undefined && matchesAny(ifNoneMatch, file.etag)) {
    return { kind: 'not_modified' }
  }
  // Range means something with GET only (14.2).
  if (range === undefined || method !== 'GET') return WHOLE
  // Strong comparison (13.1.5): a weak tag and a date never match.
  if (ifRange !== undefined && String(ifRange).trim() !== file.etag) return WHOLE
  return readRange(range, file.sizeBytes)
}

/** Value of `content-range` with 206. */
export function contentRange(firstByte: number, lastByte: number, sizeBytes: number): string {
  return `bytes ${firstByte}-${lastByte}/${sizeBytes}`
}

/** Value of `content-range` with 416. */
export function unsatisfiedRange(sizeBytes: number): string {
  return `bytes */${sizeBytes}`
}

/** Weak comparison with each tag of the list (13.1.2). */
function matchesAny(list: string, etag: string): boolean {
  if (list.trim() === '*') return true
  // %x22 cannot stand inside a tag, so no tag can be taken for a part of another.
  for (const [, tag] of list.matchAll(/(?:W\/)?("[^"]*")/g)) if (tag === etag) return true
  return false
}

function readRange(value: string, sizeBytes: number): Selection {
  const set = /^bytes=(.*)$/i.exec(value.trim())?.[1]
  const ranges = (set ?? '').split(',').map((range) => range.trim())
  const [range, ...more] = ranges.filter((text) => text !== '')
  if (range === undefined || more.length > 0) return WHOLE
  const [, first, last] = /^(\d*)-(\d*)$/.exec(range) ?? []
  if (first === undefined || last === undefined || (first === '' && last === '')) return WHOLE

  if (first === '') {
    const suffixBytes = Number(last)
    if (suffixBytes === 0 || sizeBytes === 0) return { kind: 'unsatisfiable' }
    const firstByte = Math.max(0, sizeBytes - suffixBytes)
    return { kind: 'part', firstByte, lastByte: sizeBytes - 1 }
  }
  const firstByte = Number(first)
  const lastByte = last === '' ? sizeBytes - 1 : Number(last)
  // Last before first is no range at all (14.1.1): ignored like anything malformed.
  if (last !== '' && lastByte < firstByte) return WHOLE
  if (firstByte >= sizeBytes) return { kind: 'unsatisfiable' }
  return { kind: 'part', firstByte, lastByte: Math.min(lastByte, sizeBytes - 1) }
}
