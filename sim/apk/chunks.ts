/** Writes the chunks that compiled XML and resource tables consist of: AOSP's ResourceTypes.h. Development code. */

export type Encoding = 'utf8' | 'utf16'

const UTF8_FLAG = 0x100

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(value)
  return bytes
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes
}

/** `headerBytes`: with the type, itself and the size, 8 bytes. */
export function chunk(type: number, headerBytes: number, body: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(body)
  return Buffer.concat([u16(type), u16(headerBytes), u32(8 + content.length), content])
}

export function stringPool(strings: readonly string[], encoding: Encoding = 'utf16'): Buffer {
  const isUtf8 = encoding === 'utf8'
  const encoded = strings.map(isUtf8 ? encodeUtf8 : encodeUtf16)
  const offsets: Buffer[] = []
  let at = 0
  for (const bytes of encoded) {
    offsets.push(u32(at))
    at += bytes.length
  }
  const data = Buffer.concat([...encoded, Buffer.alloc(-at & 3)])
  const head = [
    u32(strings.length),
    u32(0),
    u32(isUtf8 ? UTF8_FLAG : 0),
    u32(28 + 4 * strings.length),
    u32(0),
  ]
  return chunk(0x0001, 28, [...head, ...offsets, data])
}

function encodeUtf8(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([...[text.length, bytes.length].map(shortLength), bytes, Buffer.alloc(1)])
}

/** One byte, or two above 127. */
function shortLength(length: number): Buffer {
  return Buffer.from(length < 0x80 ? [length] : [0x80 | (length >> 8), length & 0xff])
}

function encodeUtf16(text: string): Buffer {
  const { length } = text
  const head =
    length < 0x8000
      ? u16(length)
      : Buffer.concat([u16(0x8000 | (length >> 16)), u16(length & 0xffff)])
  return Buffer.concat([head, Buffer.from(text, 'utf16le'), u16(0)])
}
