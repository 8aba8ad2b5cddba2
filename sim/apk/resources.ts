/** Writes a resources.arsc of one package, 0x7f, with values of one type each: AOSP's ResourceTypes.h. Development code. */
import { chunk, type Encoding, stringPool, u16, u32 } from './chunks.ts'

/** Ids of the values: 0x7f010000 on are the strings, 0x7f020000 on the integers, 0x7f030000 on the booleans. */
export interface ResourceOptions {
  readonly packageName?: string
  readonly strings?: readonly string[]
  /** The same strings in French, where there are any. */
  readonly french?: readonly string[]
  readonly integers?: readonly number[]
  readonly booleans?: readonly boolean[]
  readonly encoding?: Encoding
}

const TYPES = ['string', 'integer', 'bool']
const CONFIG_BYTES = 64

export function compileResources(options: ResourceOptions): Buffer {
  const { strings = [], french = [], integers = [], booleans = [] } = options
  const texts = [...strings, ...french]
  const count = Math.max(strings.length, integers.length, booleans.length)
  const keys = Array.from({ length: count }, (_, n) => `value_${n}`)
  const chunks = [
    ...typeChunks(1, [
      { values: strings.map((_, n) => [0x03, n] as const) },
      ...(french.length === 0
        ? []
        : [{ values: french.map((_, n) => [0x03, strings.length + n] as const), language: 'fr' }]),
    ]),
    ...typeChunks(2, [{ values: integers.map((value) => [0x10, value] as const) }]),
    ...typeChunks(3, [
      { values: booleans.map((value) => [0x12, value ? 0xffffffff : 0] as const) },
    ]),
  ]
  const name = Buffer.alloc(256)
  name.write(options.packageName ?? 'com.example.app', 'utf16le')
  const types = stringPool(TYPES, options.encoding)
  const head = [u32(0x7f), name, u32(288), u32(0), u32(288 + types.length), u32(0), u32(0)]
  const body = [...head, types, stringPool(keys, options.encoding), ...chunks]
  return chunk(0x0002, 12, [u32(1), stringPool(texts, options.encoding), chunk(0x0200, 288, body)])
}

interface Configuration {
  readonly values: readonly (readonly [type: number, data: number])[]
  readonly language?: string
}

function typeChunks(id: number, configurations: readonly Configuration[]): readonly Buffer[] {
  const count = configurations[0]?.values.length ?? 0
  const spec = chunk(0x0202, 16, [
    Buffer.from([id, 0, 0, 0]),
    u32(count),
    ...Array.from({ length: count }, () => u32(0)),
  ])
  return [spec, ...configurations.map((one) => typeChunk(id, one))]
}

function typeChunk(id: number, { values, language = '' }: Configuration): Buffer {
  const config = Buffer.alloc(CONFIG_BYTES)
  config.writeUInt32LE(CONFIG_BYTES)
  config.write(language, 8, 'latin1')
  const headerBytes = 20 + CONFIG_BYTES
  const entries = values.map(([type, data], key) =>
    Buffer.concat([u16(8), u16(0), u32(key), u16(8), Buffer.from([0, type]), u32(data)]),
  )
  const offsets = values.map((_, n) => u32(16 * n))
  return chunk(0x0201, headerBytes, [
    Buffer.from([id, 0, 0, 0]),
    u32(values.length),
    u32(headerBytes + 4 * values.length),
    config,
    ...offsets,
    ...entries,
  ])
}
