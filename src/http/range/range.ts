/**
 * Selects the bytes of a file for a GET or HEAD: preconditions (preconditions.ts), then Range (RFC 9110, sections 13.2.2 and
 * 14). Pure. Several ranges are ignored, as the RFC allows: the whole file is sent.
 */
import { type ConditionHeaders, judge, mayResume, type Representation } from './preconditions.ts'

export type { Representation }

/** As node:http provides them. */
export interface RangeHeaders extends ConditionHeaders {
  readonly range?: string | undefined
}

export type Selection =
  /** 304 */
  | { readonly kind: 'not_modified' }
  /** 412 */
  | { readonly kind: 'precondition_failed' }
  /** 200 */
  | { readonly kind: 'whole' }
  /** 206; both bytes inclusive, counted from 0. */
  | { readonly kind: 'part'; readonly firstByte: number; readonly lastByte: number }
  /** 416 */
  | { readonly kind: 'unsatisfiable' }

const WHOLE: Selection = { kind: 'whole' }

/** `nowS`: epoch seconds. */
export function selectBytes(
  method: string,
  headers: RangeHeaders,
  file: Representation & { readonly sizeBytes: number },
  nowS: number,
): Selection {
  const verdict = judge(headers, file, nowS)
  if (verdict !== 'proceed') return { kind: verdict }
  // Range applies to GET only (14.2).
  if (headers.range === undefined || method !== 'GET') return WHOLE
  return mayResume(headers['if-range'], file, nowS)
    ? readRange(headers.range, file.sizeBytes)
    : WHOLE
}

/** Value of `content-range` with 206. */
export function contentRange(firstByte: number, lastByte: number, sizeBytes: number): string {
  return `bytes ${firstByte}-${lastByte}/${sizeBytes}`
}

/** Value of `content-range` with 416. */
export function unsatisfiedRange(sizeBytes: number): string {
  return `bytes */${sizeBytes}`
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
  // Last before first is malformed (14.1.1) and ignored.
  if (last !== '' && lastByte < firstByte) return WHOLE
  if (firstByte >= sizeBytes) return { kind: 'unsatisfiable' }
  return { kind: 'part', firstByte, lastByte: Math.min(lastByte, sizeBytes - 1) }
}
