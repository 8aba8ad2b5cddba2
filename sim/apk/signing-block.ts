/**
 * Signs a zip by APK Signature Scheme v2, v3 and v3.1. Source: source.android.com/docs/security/features/apksigning/v2, v3.
 * Development code: the whole file is in memory.
 */
import { constants, createHash, sign } from 'node:crypto'
import { u32 } from './chunks.ts'
import type { SigningKey } from './signing-key.ts'

export type ContentDigest = 'sha256' | 'sha512'

export interface BlockSigner {
  readonly key: SigningKey
  /** v3; from 28 to the newest level where not given. */
  readonly minSdk?: number
  readonly maxSdk?: number
  /** v3: the keys before this one, oldest first. */
  readonly lineage?: readonly SigningKey[]
  /** Bits of what the old keys may still do. */
  readonly capabilities?: number
  readonly digest?: ContentDigest
  /** RSA-PSS in place of PKCS #1 v1.5. */
  readonly isPss?: boolean
  /** v2: names the scheme that must be there too. */
  readonly protects?: number
  /** v3: names the API level from which v3.1 must be there. */
  readonly rotationMinSdk?: number
  /** The signed data is changed after it was signed. */
  readonly isForged?: boolean
}

export interface BlockOptions {
  readonly v2?: readonly BlockSigner[]
  readonly v3?: readonly BlockSigner[]
  readonly v31?: readonly BlockSigner[]
  /** More pairs, by id. */
  readonly extra?: readonly (readonly [id: number, value: Buffer])[]
  /** Pads the block so that its size is a multiple of this. */
  readonly alignTo?: number
}

const ID = { v2: 0x7109871a, v3: 0xf05368c0, v31: 0x1b93ad61, padding: 0x42726577 } as const
const MAGIC = Buffer.from('APK Sig Block 42')
const CHUNK_BYTES = 1024 * 1024
const MAX_SDK = 0x7fffffff

/** `zip` with a signing block before its directory. */
export function insertSigningBlock(zip: Buffer, options: BlockOptions): Buffer<ArrayBuffer> {
  const endAt = zip.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
  const directoryAt = zip.readUInt32LE(endAt + 16)
  const sections = [
    zip.subarray(0, directoryAt),
    zip.subarray(directoryAt, endAt),
    zip.subarray(endAt),
  ]
  const pairs = [
    ...(['v2', 'v3', 'v31'] as const).flatMap((scheme) => {
      const signers = options[scheme]?.map((signer) =>
        prefixed(writeSigner(signer, scheme, sections)),
      )
      return signers === undefined ? [] : [pair(ID[scheme], prefixed(Buffer.concat(signers)))]
    }),
    ...(options.extra ?? []).map(([id, value]) => pair(id, value)),
  ]
  const block = wrap(pairs, options.alignTo)
  const end = Buffer.from(zip.subarray(endAt))
  end.writeUInt32LE(directoryAt + block.length, 16)
  return Buffer.concat([zip.subarray(0, directoryAt), block, zip.subarray(directoryAt, endAt), end])
}

function wrap(pairs: Buffer[], alignTo: number | undefined): Buffer {
  const content = Buffer.concat(pairs)
  const blockBytes = content.length + 32
  if (alignTo !== undefined && blockBytes % alignTo !== 0) {
    const rest = (alignTo - ((blockBytes + 12) % alignTo)) % alignTo
    return wrap([...pairs, pair(ID.padding, Buffer.alloc(rest))], undefined)
  }
  const size = u64(blockBytes - 8)
  return Buffer.concat([size, content, size, MAGIC])
}

function pair(id: number, value: Buffer): Buffer {
  return Buffer.concat([u64(4 + value.length), u32(id), value])
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function prefixed(...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  return Buffer.concat([u32(content.length), content])
}

type Scheme = 'v2' | 'v3' | 'v31'

function writeSigner(signer: BlockSigner, scheme: Scheme, sections: readonly Buffer[]): Buffer {
  const { key, digest = 'sha256', minSdk = 28, maxSdk = MAX_SDK } = signer
  const id = algorithmId(signer)
  const levels = scheme === 'v2' ? [] : [u32(minSdk), u32(maxSdk)]
  const signedData = Buffer.concat([
    prefixed(prefixed(u32(id), prefixed(digestSections(sections, digest)))),
    prefixed(prefixed(key.certificate)),
    ...levels,
    prefixed(...attributesOf(signer).map(([name, value]) => prefixed(u32(name), value))),
    ...(scheme === 'v2' ? [u32(0)] : []), // apksigner writes it, and ignores it
  ])
  const signature = signBytes(signer, signedData)
  if (signer.isForged) signedData.writeUInt8(signedData.readUInt8(20) ^ 1, 20)
  return Buffer.concat([
    prefixed(signedData),
    ...levels,
    prefixed(prefixed(u32(id), prefixed(signature))),
    prefixed(key.publicKey),
  ])
}

function algorithmId({ key, digest = 'sha256', isPss = false }: BlockSigner): number {
  const base = { rsa: isPss ? 0x0101 : 0x0103, ec: 0x0201, dsa: 0x0301 }[key.kind]
  return digest === 'sha512' ? base + 1 : base
}

function signBytes({ key, digest = 'sha256', isPss = false }: BlockSigner, bytes: Buffer): Buffer {
  const pss = {
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
  }
  return sign(digest, bytes, { key: key.privateKey, ...(isPss && pss) })
}

function attributesOf(signer: BlockSigner): readonly (readonly [number, Buffer])[] {
  const { lineage, protects, rotationMinSdk, key } = signer
  return [
    ...(protects === undefined ? [] : [[0xbeeff00d, u32(protects)] as const]),
    ...(lineage === undefined
      ? []
      : [[0x3ba06f8c, writeLineage([...lineage, key], signer.capabilities)] as const]),
    ...(rotationMinSdk === undefined ? [] : [[0x559f8b02, u32(rotationMinSdk)] as const]),
  ]
}

/** What `apksigner rotate` gives an old certificate. */
const ALL_BUT_ROLLBACK = 23

/** Each key signs the certificate of the next one. */
function writeLineage(keys: readonly SigningKey[], capabilities = ALL_BUT_ROLLBACK): Buffer {
  const nodes = keys.map((key, index) => {
    const parent = keys[index - 1]
    const parentId = parent === undefined ? 0 : algorithmId({ key: parent })
    const signedData = Buffer.concat([prefixed(key.certificate), u32(parentId)])
    const signature =
      parent === undefined ? Buffer.alloc(0) : signBytes({ key: parent }, signedData)
    const nextId = index === keys.length - 1 ? 0 : algorithmId({ key })
    return prefixed(prefixed(signedData), u32(capabilities), u32(nextId), prefixed(signature))
  })
  return Buffer.concat([u32(1), ...nodes])
}

function digestSections(sections: readonly Buffer[], algorithm: ContentDigest): Buffer {
  const digests: Buffer[] = []
  for (const section of sections) {
    for (let at = 0; at < section.length; at += CHUNK_BYTES) {
      const chunk = section.subarray(at, at + CHUNK_BYTES)
      digests.push(createHash(algorithm).update(marked(0xa5, chunk.length)).update(chunk).digest())
    }
  }
  const list = createHash(algorithm).update(marked(0x5a, digests.length))
  return list.update(Buffer.concat(digests)).digest()
}

function marked(mark: number, value: number): Buffer {
  return Buffer.concat([Buffer.from([mark]), u32(value)])
}
