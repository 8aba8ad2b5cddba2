/** APKs whose certificate has extensions: each that Java knows, whole and damaged, critical or not. Development code. */
import {
  bits,
  der,
  integer,
  nothing,
  objectId,
  octets,
  sequence,
  set,
  tagged,
  utf8,
} from './der.ts'
import { createSigningKey } from './signing-key.ts'
import { MANIFEST, make, OLD, type Variant } from './variant.ts'

export interface ExtensionSample {
  readonly name: string
  readonly id: string
  /** The content of its octet string. */
  readonly whole: Buffer
  readonly damaged: Buffer
}

const TRUE = der(0x01, Buffer.from([0xff]))
const PURPOSE = objectId('1.3.6.1.5.5.7.3.3')
const primitive = (n: number, bytes: Uint8Array) => der(0x80 | n, bytes)
const dns = primitive(2, Buffer.from('example.com'))
const uri = (text: string) => primitive(6, Buffer.from(text))
const attribute = sequence(objectId('2.5.4.3'), utf8('a name'))
const x400 = tagged(3, sequence())
const directory = tagged(4, sequence(set(attribute)))
const mail = primitive(1, Buffer.from('a@example.com'))
const address = primitive(7, Buffer.from([192, 0, 2, 1]))
const other = tagged(0, objectId('1.3.6.1.4.1.311.20.2.3'), tagged(0, utf8('a@example.com')))
const registered = primitive(8, Buffer.from([0x2a, 0x03]))
const time = (text: string) => Buffer.from(text)
const crl = sequence(tagged(0, tagged(0, uri('http://example.com/a.crl'))))
const names = [dns, mail, address, other, x400, directory, registered, uri('ldap:///CN=a?b')]

/** Each extension that Java knows, in the order of the ids. */
export const EXTENSIONS: readonly ExtensionSample[] = [
  ['subject key identifier', '2.5.29.14', octets(Buffer.alloc(20, 1)), bits(Buffer.alloc(20, 1))],
  ['key usage', '2.5.29.15', der(3, Buffer.from([7, 0x80])), der(3, Buffer.from([8, 0x80]))],
  [
    'private key usage',
    '2.5.29.16',
    sequence(primitive(0, time('20200101000000Z')), primitive(1, time('20491231235959Z'))),
    sequence(primitive(0, time('20201301000000Z'))),
  ],
  ['subject names', '2.5.29.17', sequence(...names), sequence()],
  ['issuer names', '2.5.29.18', sequence(...names), sequence(primitive(7, Buffer.alloc(5)))],
  ['basic constraints', '2.5.29.19', sequence(TRUE, integer(3)), sequence(TRUE, TRUE)],
  ['CRL number', '2.5.29.20', integer(Buffer.alloc(20, 1)), der(0x02)],
  ['CRL reason', '2.5.29.21', der(0x0a, Buffer.from([1])), integer(1)],
  ['delta CRL', '2.5.29.27', integer(7), octets(Buffer.from([7]))],
  [
    'issuing point',
    '2.5.29.28',
    sequence(tagged(0, tagged(1, attribute)), primitive(1, Buffer.from([0xff]))),
    sequence(primitive(1, Buffer.alloc(2))),
  ],
  ['certificate issuer', '2.5.29.29', sequence(directory), sequence(tagged(4, attribute))],
  [
    'name constraints',
    '2.5.29.30',
    sequence(tagged(0, sequence(dns, primitive(0, Buffer.alloc(1))), sequence(uri('.a.org')))),
    sequence(tagged(0, sequence(uri('http://a.org')))),
  ],
  ['CRL points', '2.5.29.31', sequence(crl), sequence(sequence(primitive(1, Buffer.alloc(2))))],
  [
    'policies',
    '2.5.29.32',
    sequence(sequence(PURPOSE, sequence(sequence(objectId('1.3.6.1.5.5.7.2.1'), utf8('a'))))),
    sequence(sequence(PURPOSE, sequence())),
  ],
  [
    'policy mappings',
    '2.5.29.33',
    sequence(sequence(PURPOSE, PURPOSE)),
    sequence(sequence(PURPOSE)),
  ],
  [
    'authority key identifier',
    '2.5.29.35',
    sequence(primitive(0, Buffer.alloc(20)), tagged(1, directory), primitive(2, Buffer.from([1]))),
    sequence(tagged(1)),
  ],
  [
    'policy constraints',
    '2.5.29.36',
    sequence(primitive(0, Buffer.from([1]))),
    sequence(integer(1)),
  ],
  ['extended key usage', '2.5.29.37', sequence(PURPOSE), sequence(integer(1))],
  ['freshest CRL', '2.5.29.46', sequence(crl), sequence(sequence())],
  ['no policy', '2.5.29.54', integer(1), der(0x02, Buffer.from([0xfe]))],
  [
    'authority access',
    '1.3.6.1.5.5.7.1.1',
    sequence(sequence(PURPOSE, uri('https://example.com:443/a%20b'))),
    sequence(sequence(PURPOSE, uri('no scheme'))),
  ],
  [
    'subject access',
    '1.3.6.1.5.5.7.1.11',
    sequence(sequence(PURPOSE, dns)),
    sequence(sequence(dns)),
  ],
  ["Netscape's type", '2.16.840.1.113730.1.1', bits(Buffer.from([0x10])), der(0x03)],
].map(([name = '', id = '', whole, damaged]) => ({
  ...{ name: String(name), id: String(id) },
  ...{ whole: Buffer.from(whole ?? ''), damaged: Buffer.from(damaged ?? '') },
}))
/** Any value will do. */
const NO_CHECK = '1.3.6.1.5.5.7.48.1.5'
const UNKNOWN = '1.2.3.4.5'
const KEY_USAGE = '2.5.29.15'

export function extension(id: string, value: Buffer, isCritical: boolean): Buffer {
  return sequence(objectId(id), ...(isCritical ? [TRUE] : []), octets(value))
}

export function byCertificate(): readonly Variant[] {
  const all = (isDamaged: boolean, isCritical: boolean) =>
    EXTENSIONS.map(({ id, whole, damaged }) =>
      extension(id, isDamaged ? damaged : whole, isCritical),
    )
  const unknown = extension(UNKNOWN, Buffer.from('any'), true)
  const noCheck = extension(NO_CHECK, nothing, true)
  const signsCertificates = der(0x03, Buffer.from([2, 0x04]))
  const hidden = der(0x03, Buffer.from([7, 0x40]))
  return [
    v2('every extension, critical', [...all(false, true), noCheck, unknown]),
    v2('every extension, not critical', all(false, false)),
    v2('every extension, damaged, not critical', all(true, false)),
    ...EXTENSIONS.map(({ name, id, damaged }) =>
      v2(`a damaged critical extension: ${name}`, [extension(id, damaged, true)]),
    ),
    v1('every extension, critical, v1', [...all(false, true), noCheck]),
    v1('an unknown critical extension, v1', [unknown]),
    v1('a damaged key usage that is not critical, v1', [
      extension(KEY_USAGE, der(0x03, Buffer.from([9, 0])), false),
    ]),
    v1('a key usage of a CA, v1', [extension(KEY_USAGE, signsCertificates, true)]),
    v1('a key usage in the unused bits, v1', [extension(KEY_USAGE, hidden, false)]),
    ...NAMES.map(([name, extensions, options]) => v2(name, extensions, options)),
  ]
}

const subjectNames = (isCritical: boolean) => extension('2.5.29.17', sequence(dns), isCritical)
const NAMES = [
  ['no issuer', [], { issuer: sequence() }],
  ['no subject', [], { subject: sequence() }],
  ['no subject but other names', [subjectNames(true)], { subject: sequence() }],
  ['no subject but names that are not critical', [subjectNames(false)], { subject: sequence() }],
] as const

type KeyOptions = Omit<Parameters<typeof createSigningKey>[0] & object, 'kind' | 'extensions'>

function v2(name: string, extensions: readonly Buffer[], options: KeyOptions = {}): Variant {
  const key = createSigningKey({ ...options, kind: 'ec', extensions })
  return make(name, { manifest: MANIFEST, entries: [], block: { v2: [{ key }] } })
}

function v1(name: string, extensions: readonly Buffer[]): Variant {
  const key = createSigningKey({ kind: 'ec', extensions })
  return make(name, { manifest: OLD, entries: [], v1: { keys: [key] } })
}
