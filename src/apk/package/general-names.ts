/**
 * Names in X.509 certificates and their extensions. Source: RFC 5280, sections 4.1.2.4 and 4.2.1.6, and Java's
 * sun.security.x509 (X500Name, GeneralName), which decides what apksigner accepts.
 */
import { type Der, TAG } from './signature/der.ts'

/** [n], primitive or constructed. */
export const primitive = (n: number) => 0x80 | n
export const constructed = (n: number) => 0xa0 | n

/** IPv4 and IPv6; twice as long with a mask. */
const IP_LENGTHS: readonly number[] = [4, 8, 16, 32]
/** Java would read the value of such a name as an extension, and fails. */
const EXTENSION_ID = /^(?:551d|2b060105050701|2b060105050730|6086480186f842)/
const LABEL = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/i
const URI = /^[a-z][a-z0-9+.-]*:([^#]+)(?:#[^#]*)?$/i
const ESCAPED = /%[0-9a-f]{2}/gi
const NOT_IN_URI = /[^\w.!~*'():@&=+$,;/?#-]/
const AUTHORITY = /^\/\/(?:([a-z0-9.-]+)(?::\d{1,5})?)?(?=[/?#]|$)/i

/** A distinguished name. */
export function readName(from: Der): void {
  const name = from.enter(TAG.sequence)
  while (!name.isAtEnd) readRelativeName(name)
}

export function readRelativeName(from: Der, tag: number = TAG.set): void {
  const relative = from.enter(tag)
  do {
    const attribute = relative.enter(TAG.sequence)
    attribute.objectId()
    attribute.skip()
    attribute.expectEnd()
  } while (!relative.isAtEnd)
}

/** One general name at least. */
export function readGeneralNames(from: Der, tag: number = TAG.sequence): void {
  const names = from.enter(tag)
  do readGeneralName(names)
  while (!names.isAtEnd)
}

/** `isConstraint`: a URI stands for a host, or a domain if it begins with a dot. */
export function readGeneralName(from: Der, isConstraint = false): void {
  const tag = from.peek() ?? 0
  const read = KINDS[tag]
  from.expect(read !== undefined)
  read?.(from, tag, isConstraint)
}

const KINDS: Readonly<Record<number, (from: Der, tag: number, isConstraint: boolean) => void>> = {
  [constructed(0)]: readOtherName,
  [primitive(1)]: (from, tag) => from.expect(isMailAddress(textOf(from, tag))),
  [primitive(2)]: (from, tag) => from.take(tag), // a host; Java takes any text
  [constructed(3)]: (from, tag) => from.take(tag), // X.400
  [constructed(4)]: readDirectoryName,
  [primitive(6)]: readUri,
  [primitive(7)]: (from, tag) => from.expect(IP_LENGTHS.includes(from.take(tag).length)),
  [primitive(8)]: (from, tag) => from.objectId(tag),
}

function readOtherName(from: Der, tag: number): void {
  const other = from.enter(tag)
  from.expect(!EXTENSION_ID.test(other.objectId()))
  other.take(constructed(0))
  other.expectEnd()
}

function readDirectoryName(from: Der, tag: number): void {
  const directory = from.enter(tag)
  readName(directory)
  directory.expectEnd()
}

function readUri(from: Der, tag: number, isConstraint: boolean): void {
  const text = textOf(from, tag)
  from.expect(isConstraint ? isDomain(text.replace(/^\./, '')) : isUri(text))
}

function textOf(from: Der, tag: number): string {
  return from.take(tag).toString('latin1')
}

function isMailAddress(text: string): boolean {
  const domain = text.slice(text.indexOf('@') + 1)
  return domain !== '' && domain !== '.'
}

function isUri(text: string): boolean {
  const rest = URI.exec(text)?.[1]
  if (rest === undefined || NOT_IN_URI.test(text.replace(ESCAPED, ''))) return false
  if (!rest.startsWith('//')) return true
  const authority = AUTHORITY.exec(rest)
  if (authority === null || rest === '//') return false
  return authority[1] === undefined || isDomain(authority[1])
}

function isDomain(text: string): boolean {
  return text.split('.').every((label) => LABEL.test(label))
}
