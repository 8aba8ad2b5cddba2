/** Where the bytes of an APK come from, and how a reader says that they are no APK. This folder imports nothing of ours but src/domain. */

import type { FileHandle } from 'node:fs/promises'
import type { ApkSource } from '../../domain/apk-source.ts'

/** A file that is open for reading, of a known size. */
export function fileSource(file: Pick<FileHandle, 'read'>, sizeBytes: number): ApkSource {
  return {
    sizeBytes,
    async read(buffer, offset) {
      let filled = 0
      while (filled < buffer.length) {
        const rest = buffer.length - filled
        const { bytesRead } = await file.read(buffer, filled, rest, offset + filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return filled
    },
  }
}

/** `invalid`: not an installable APK. `signature`: a signature that is there does not hold. */
export type FaultKind = 'invalid' | 'signature'

/** Ends the reading of a package; `reason` is one clause without a full stop that the uploader may see. */
export class PackageFault extends Error {
  override readonly name: string = 'PackageFault'
  readonly kind: FaultKind
  readonly reason: string

  constructor(kind: FaultKind, reason: string) {
    super(reason)
    this.kind = kind
    this.reason = reason
  }
}

export function invalid(reason: string): PackageFault {
  return new PackageFault('invalid', reason)
}

export function badSignature(reason: string): PackageFault {
  return new PackageFault('signature', reason)
}

/** `source` that rejects with the signal's reason from the moment it is aborted. */
export function abortable(source: ApkSource, signal: AbortSignal | undefined): ApkSource {
  if (signal === undefined) return source
  return {
    sizeBytes: source.sizeBytes,
    read(buffer, offset) {
      return signal.aborted ? Promise.reject(signal.reason) : source.read(buffer, offset)
    },
  }
}

const BLOCK_BYTES = 64 * 1024

/** `source` through one block in memory, for one read at a time: a system call for each of many small entries takes far longer. */
export function blockwise(source: ApkSource): ApkSource {
  const block = Buffer.allocUnsafeSlow(BLOCK_BYTES)
  let first = 0
  let length = 0
  return {
    sizeBytes: source.sizeBytes,
    async read(buffer, offset) {
      if (buffer.length >= BLOCK_BYTES) return await source.read(buffer, offset)
      let filled = 0
      while (filled < buffer.length) {
        const at = offset + filled
        if (at < first || at >= first + length) {
          first = at - (at % BLOCK_BYTES)
          length = 0 // until it is read
          length = await source.read(block, first)
          if (at >= first + length) break
        }
        filled += block.copy(buffer, filled, at - first, length)
      }
      return filled
    },
  }
}

/** Exactly `buffer.length` bytes. The caller has checked that they lie within the file. */
export async function fill(source: ApkSource, buffer: Buffer, offset: number): Promise<void> {
  const bytes = await source.read(buffer, offset)
  if (bytes !== buffer.length) throw invalid('the file is shorter than it was')
}

/** Exactly `length` bytes, a new buffer. The caller has bounded `length` and checked that they lie within the file. */
export async function readBytes(
  source: ApkSource,
  offset: number,
  length: number,
): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length)
  await fill(source, buffer, offset)
  return buffer
}

/** For a reason: at most 80 characters of what the file holds, control and invisible characters replaced. */
export function quoted(text: string): string {
  const shown = text.length > 80 ? `${text.slice(0, 77)}...` : text
  return `"${Buffer.from(shown)
    .toString()
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')}"`
}
