/**
 * Compiled XML: the elements of a document with their attributes. Source: ResXMLTree_* and Res_value in AOSP
 * frameworks/base/libs/androidfw/include/androidfw/ResourceTypes.h. The document is in memory; elements are read one by
 * one, to its end, so that a damaged one is found. Of two string pools, or two maps of resource ids, a phone would take another
 * than apksigner: one of each, before the first element. Bounds: 100,000 chunks, depth 100, 1,000 attributes an element,
 * names of 256 characters.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { invalid } from './source.ts'
import { readStringPool, type StringPool } from './string-pool.ts'

const XML = 0x0003
const STRING_POOL = 0x0001
const RESOURCE_MAP = 0x0180
const START_ELEMENT = 0x0102
const END_ELEMENT = 0x0103
const FIRST_NODE = 0x0100
const LAST_NODE = 0x017f
const CHUNK_HEADER_BYTES = 8
const NODE_HEADER_BYTES = 16
const ELEMENT_BYTES = 20
const ATTRIBUTE_BYTES = 20
const NONE = 0xffffffff
const MAX_CHUNKS = 100_000
/** Between two turns of the event loop: 1 ms. */
const CHUNKS_A_TURN = 500
const MAX_DEPTH = 100
const MAX_ATTRIBUTES = 1_000
const MAX_NAME_LENGTH = 256

/** Res_value.dataType; the rest is not used here. */
export const VALUE = {
  reference: 0x01,
  string: 0x03,
  firstInt: 0x10,
  hexadecimal: 0x11,
  boolean: 0x12,
  lastInt: 0x1f,
} as const

export interface TypedValue {
  readonly type: number
  /** Unsigned. */
  readonly data: number
  /** With type string; throws `invalid` with another. */
  readonly text: () => string
}

export interface XmlAttribute extends TypedValue {
  readonly name: string
  /** Of the attribute, such as 0x0101021b for android:versionCode; 0 where it has none. */
  readonly resourceId: number
  readonly hasNamespace: boolean
}

export interface XmlElement {
  readonly name: string
  readonly hasNamespace: boolean
  /** 1: the root. */
  readonly depth: number
  readonly attributes: () => readonly XmlAttribute[]
}

/** Every element, parents first. Throws `invalid` where the document is none, or damaged. */
export async function* readElements(xml: Buffer): AsyncGenerator<XmlElement> {
  if (xml.length < CHUNK_HEADER_BYTES || xml.readUInt16LE(0) !== XML) {
    throw invalid('AndroidManifest.xml is not compiled XML, as it is in an AAR or in source code')
  }
  const end = xml.readUInt32LE(4)
  if (end > xml.length) throw damaged()
  let strings: StringPool | undefined
  let resourceIds: Buffer | undefined
  let hasNodes = false
  let depth = 0
  let count = 0
  for (const { type, body } of chunksOf(xml.subarray(0, end), xml.readUInt16LE(2))) {
    if (++count % CHUNKS_A_TURN === 0) await turn()
    hasNodes ||= type >= FIRST_NODE && type <= LAST_NODE
    if (type === STRING_POOL) {
      if (strings !== undefined || hasNodes) throw damaged()
      strings = readStringPool(body)
    } else if (type === RESOURCE_MAP) {
      if (resourceIds !== undefined || hasNodes) throw damaged()
      resourceIds = body.subarray(body.readUInt16LE(2))
    } else if (type === START_ELEMENT) {
      if (++depth > MAX_DEPTH) throw invalid('AndroidManifest.xml is nested too deeply')
      if (strings === undefined) throw damaged()
      yield readElement(body, depth, strings, resourceIds ?? Buffer.alloc(0))
    } else if (type === END_ELEMENT) {
      if (--depth < 0) throw damaged()
    }
  }
  if (depth !== 0) throw damaged()
}

/** The chunks within a container, each with its header. */
function* chunksOf(container: Buffer, first: number) {
  if (first < CHUNK_HEADER_BYTES) throw damaged()
  let count = 0
  for (let at = first; at < container.length; count++) {
    if (count === MAX_CHUNKS) throw invalid('AndroidManifest.xml has too many parts')
    if (at + CHUNK_HEADER_BYTES > container.length) throw damaged()
    const type = container.readUInt16LE(at)
    const headerBytes = container.readUInt16LE(at + 2)
    const sizeBytes = container.readUInt32LE(at + 4)
    const isNode = type >= FIRST_NODE && type <= LAST_NODE
    const minBytes = isNode ? NODE_HEADER_BYTES : CHUNK_HEADER_BYTES
    const isWhole = sizeBytes % 4 === 0 && headerBytes % 4 === 0
    if (!isWhole || headerBytes < minBytes || headerBytes > sizeBytes) throw damaged()
    if (sizeBytes > container.length - at) throw damaged()
    yield { type, body: container.subarray(at, at + sizeBytes) }
    at += sizeBytes
  }
}

function readElement(
  chunk: Buffer,
  depth: number,
  strings: StringPool,
  resourceIds: Buffer,
): XmlElement {
  const at = chunk.readUInt16LE(2)
  if (at + ELEMENT_BYTES > chunk.length) throw damaged()
  const firstAttribute = at + chunk.readUInt16LE(at + 8)
  const attributeBytes = chunk.readUInt16LE(at + 10)
  const count = chunk.readUInt16LE(at + 12)
  if (count > MAX_ATTRIBUTES)
    throw invalid('AndroidManifest.xml has an element of too many attributes')
  const isInside = firstAttribute + count * attributeBytes <= chunk.length
  if (count > 0 && (attributeBytes < ATTRIBUTE_BYTES || !isInside)) throw damaged()
  return {
    name: strings(chunk.readUInt32LE(at + 4), MAX_NAME_LENGTH),
    hasNamespace: chunk.readUInt32LE(at) !== NONE,
    depth,
    attributes: () =>
      Array.from({ length: count }, (_, index) =>
        readAttribute(chunk, firstAttribute + index * attributeBytes, strings, resourceIds),
      ),
  }
}

function readAttribute(
  chunk: Buffer,
  at: number,
  strings: StringPool,
  resourceIds: Buffer,
): XmlAttribute {
  const nameIndex = chunk.readUInt32LE(at + 4)
  const hasId = 4 * nameIndex + 4 <= resourceIds.length
  const type = chunk.readUInt8(at + 15)
  const data = chunk.readUInt32LE(at + 16)
  return {
    name: strings(nameIndex, MAX_NAME_LENGTH),
    resourceId: hasId ? resourceIds.readUInt32LE(4 * nameIndex) : 0,
    hasNamespace: chunk.readUInt32LE(at) !== NONE,
    type,
    data,
    text() {
      if (type !== VALUE.string) throw damaged()
      return strings(data)
    },
  }
}

function damaged() {
  return invalid('AndroidManifest.xml is damaged')
}
