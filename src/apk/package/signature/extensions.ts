/**
 * The content of X.509 extensions. Source: RFC 5280, section 4.2, and Java's sun.security.x509 (OIDMap,
 * CertificateExtensions), by which apksigner reads certificates. Java refuses a critical extension that it knows and cannot
 * read; it ignores others that it cannot read or does not know. This reader accepts nothing that Java refuses. It is
 * stricter in what no tool writes: BER, a part that is there twice, an EDI party name, a URI that only java.net.URI takes.
 * Bounds: the structures do not nest, so depth is theirs.
 */
import {
  constructed,
  primitive,
  readGeneralName,
  readGeneralNames,
  readRelativeName,
} from '../general-names.ts'
import { type Der, TAG } from './der.ts'

/** Reads one value, with `tag` where that is another than usual. Throws where it is damaged. */
type Read = (from: Der, tag?: number) => void

export const KEY_USAGE = '551d0f'
export const SUBJECT_NAMES = '551d11'
/** Java does not read its value. */
const NO_OCSP_CHECK = '2b0601050507300105'
const ENUMERATED = 0x0a
/** Java's int. */
const INT_BYTES = 4
const TIME = /^\d{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])(?:[0-5]\d){2}Z$/

/** Those that Java knows, by object id. */
const READERS: ReadonlyMap<string, Read> = new Map<string, Read>([
  ['551d0e', (from) => from.take(TAG.octetString)], // subject key identifier
  [KEY_USAGE, readBits],
  ['551d10', partsOf({ [primitive(0)]: readTime, [primitive(1)]: readTime })], // private key usage
  [SUBJECT_NAMES, readGeneralNames],
  ['551d12', readGeneralNames], // issuer alternative name
  ['551d13', readBasicConstraints],
  ['551d14', readNumber], // CRL number
  ['551d15', (from) => readInt(from, ENUMERATED)], // CRL reason
  ['551d1b', readNumber], // delta CRL indicator
  ['551d1c', readIssuingPoint],
  ['551d1d', readGeneralNames], // certificate issuer
  ['551d1e', partsOf({ [constructed(0)]: readSubtrees, [constructed(1)]: readSubtrees })], // name constraints
  ['551d1f', listOf(readDistributionPoint)],
  ['551d20', listOf(readPolicy)],
  ['551d21', listOf(readPolicyMapping)],
  ['551d23', readAuthorityKey],
  ['551d24', partsOf({ [primitive(0)]: readInt, [primitive(1)]: readInt })], // policy constraints
  ['551d25', listOf((from) => from.objectId())], // extended key usage
  ['551d2e', listOf(readDistributionPoint)], // freshest CRL
  ['551d36', readInhibitAnyPolicy],
  ['2b06010505070101', listOf(readAccess)], // authority information access
  ['2b0601050507010b', listOf(readAccess)], // subject information access
  ['6086480186f8420101', readBits], // Netscape's type
])

/** Whether Java knows the extension: one that it does not know and that is critical keeps a certificate from signing a JAR. */
export function isKnownExtension(id: string): boolean {
  return READERS.has(id) || id === NO_OCSP_CHECK
}

/** `value`: the content of the extension's octet string. Throws where Java refuses it if it is critical. */
export function readExtension(id: string, value: Der): void {
  const read = READERS.get(id)
  if (read === undefined) return
  read(value)
  value.expectEnd()
}

function listOf(read: Read): Read {
  return (from) => {
    const list = from.enter(TAG.sequence)
    while (!list.isAtEnd) read(list)
  }
}

/** A sequence of optional parts in any order. */
function partsOf(reads: Readonly<Record<number, Read>>): Read {
  return (from) => {
    readParts(from, reads)
  }
}

/** The tags that are there. */
function readParts(from: Der, reads: Readonly<Record<number, Read>>): ReadonlySet<number> {
  const parts = from.enter(TAG.sequence)
  const seen = new Set<number>()
  while (!parts.isAtEnd) {
    const tag = parts.peek() ?? 0
    const read = seen.has(tag) ? undefined : reads[tag]
    parts.expect(read !== undefined)
    seen.add(tag)
    read?.(parts, tag)
  }
  return seen
}

function readBits(from: Der, tag: number = TAG.bitString): void {
  const { 0: unusedBits = 8, length } = from.take(tag)
  from.expect(unusedBits <= (length > 1 ? 7 : 0))
}

function readNumber(from: Der, tag: number = TAG.integer): void {
  from.expect(from.take(tag).length > 0)
}

function readInt(from: Der, tag: number = TAG.integer): void {
  const { length } = from.take(tag)
  from.expect(length > 0 && length <= INT_BYTES)
}

function readBoolean(from: Der, tag: number = TAG.boolean): void {
  from.expect(from.take(tag).length === 1)
}

function readTime(from: Der, tag: number = 0): void {
  from.expect(TIME.test(from.take(tag).toString('latin1')))
}

function readBasicConstraints(from: Der): void {
  const constraints = from.enter(TAG.sequence)
  if (constraints.peek() === TAG.boolean) {
    readBoolean(constraints)
    if (!constraints.isAtEnd) readInt(constraints)
  } else if (!constraints.isAtEnd) {
    constraints.take(TAG.integer)
  }
  constraints.expectEnd()
}

function readSubtrees(from: Der, tag: number = TAG.sequence): void {
  const subtrees = from.enter(tag)
  while (!subtrees.isAtEnd) {
    const subtree = subtrees.enter(TAG.sequence)
    readGeneralName(subtree, true)
    for (const limit of [primitive(0), primitive(1)]) {
      if (subtree.peek() === limit) readInt(subtree, limit)
    }
    subtree.expectEnd()
  }
}

function readDistributionPoint(from: Der): void {
  const seen = readParts(from, {
    [constructed(0)]: readPointName,
    [primitive(1)]: readBits,
    [constructed(2)]: readGeneralNames,
  })
  from.expect(seen.has(constructed(0)) || seen.has(constructed(2)))
}

function readIssuingPoint(from: Der): void {
  readParts(from, {
    [constructed(0)]: readPointName,
    [primitive(1)]: readBoolean,
    [primitive(2)]: readBoolean,
    [primitive(3)]: readBits,
    [primitive(4)]: readBoolean,
    [primitive(5)]: readBoolean,
  })
}

function readPointName(from: Der, tag: number = constructed(0)): void {
  const name = from.enter(tag)
  if (name.peek() === constructed(0)) readGeneralNames(name, constructed(0))
  else readRelativeName(name, constructed(1))
  name.expectEnd()
}

function readPolicy(from: Der): void {
  const policy = from.enter(TAG.sequence)
  policy.objectId()
  if (policy.isAtEnd) return
  const qualifiers = policy.enter(TAG.sequence)
  do {
    const qualifier = qualifiers.enter(TAG.sequence)
    qualifier.objectId() // Java does not read what follows
  } while (!qualifiers.isAtEnd)
  policy.expectEnd()
}

function readPolicyMapping(from: Der): void {
  const mapping = from.enter(TAG.sequence)
  mapping.objectId()
  mapping.objectId()
  mapping.expectEnd()
}

function readAuthorityKey(from: Der): void {
  readParts(from, {
    [primitive(0)]: (parts, tag = 0) => parts.take(tag),
    [constructed(1)]: readGeneralNames,
    [primitive(2)]: readNumber,
  })
}

function readInhibitAnyPolicy(from: Der): void {
  const skipped = from.take(TAG.integer)
  from.expect(skipped.length > 0 && skipped.length <= INT_BYTES)
  from.expect(skipped.readIntBE(0, skipped.length) >= -1)
}

function readAccess(from: Der): void {
  const access = from.enter(TAG.sequence)
  access.objectId()
  readGeneralName(access)
  access.expectEnd()
}
