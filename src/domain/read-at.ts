/** Random access to a file; resolves with exactly `length` bytes wherever they lie within it. */
export type ReadAt = (offset: number, length: number) => Promise<Buffer>
