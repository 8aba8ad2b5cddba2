/** Writes zips, whole in memory. Source: APPNOTE.TXT 6.3.10, section 4.3. Development code. */
import { crc32, deflateRawSync } from 'node:zlib'

export interface ZipEntry {
  readonly name: string
  readonly bytes: Uint8Array
  /** Stored as it is where this is not set. */
  readonly isDeflated?: boolean
}

const LOCAL_BYTES = 30
const ENTRY_BYTES = 46
const END_BYTES = 22

/** A zip of entries; `block` goes between them and the directory. */
export function makeZip(
  entries: readonly ZipEntry[],
  comment = '',
  block: Uint8Array = Buffer.alloc(0),
): Buffer<ArrayBuffer> {
  const files: Uint8Array[] = []
  const directory: Uint8Array[] = []
  let offset = 0
  for (const { name, bytes, isDeflated = false } of entries) {
    const nameBytes = Buffer.from(name)
    const data = isDeflated ? deflateRawSync(bytes) : bytes
    const shared = Buffer.alloc(26) // from "version needed" to "extra length": the same in both headers
    shared.writeUInt16LE(20, 0)
    shared.writeUInt16LE(isDeflated ? 8 : 0, 4)
    shared.writeUInt32LE(crc32(bytes), 10)
    shared.writeUInt32LE(data.length, 14)
    shared.writeUInt32LE(bytes.length, 18)
    shared.writeUInt16LE(nameBytes.length, 22)
    files.push(Buffer.from('PK\x03\x04', 'latin1'), shared, nameBytes, data)
    const place = Buffer.alloc(ENTRY_BYTES - 4 - 2 - shared.length)
    place.writeUInt32LE(offset, place.length - 4)
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), shared, place, nameBytes)
    offset += LOCAL_BYTES + nameBytes.length + data.length
  }
  files.push(block)
  offset += block.length
  const directoryBytes = Buffer.concat(directory)
  const end = Buffer.alloc(END_BYTES)
  end.write('PK\x05\x06', 'latin1')
  end.writeUInt16LE(entries.length, 8)
  end.writeUInt16LE(entries.length, 10)
  end.writeUInt32LE(directoryBytes.length, 12)
  end.writeUInt32LE(offset, 16)
  const commentBytes = Buffer.from(comment)
  end.writeUInt16LE(commentBytes.length, 20)
  return Buffer.concat([...files, directoryBytes, end, commentBytes])
}
