/** Bytes in memory as the source of a package. Development code. */
import type { ApkSource } from '../src/domain/apk-source.ts'

export function memorySource(bytes: Buffer): ApkSource {
  return {
    sizeBytes: bytes.length,
    read: async (buffer, offset) => bytes.copy(buffer, 0, offset),
  }
}
