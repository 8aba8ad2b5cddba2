/** Random access to the bytes of a complete APK, wherever they are. */
export interface ApkSource {
  readonly sizeBytes: number
  /**
   * Fills `buffer` from `offset` on, as far as the file goes, and returns how many bytes that was. The caller may reuse
   * the buffer afterwards. Rejects where the medium fails.
   */
  read(buffer: Buffer, offset: number): Promise<number>
}
