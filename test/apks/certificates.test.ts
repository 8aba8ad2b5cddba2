/** Certificates that few tools write: another issuer of CRLs, and the second version. */
import t from 'tap'
import { extension } from '../../sim/apk/certificate-variants.ts'
import { der, integer, sequence, tagged } from '../../sim/apk/der.ts'
import { type CertificateOptions, createSigningKey } from '../../sim/apk/signing-key.ts'
import { readCertificate } from '../../src/apk/package/signature/certificate.ts'
import { Der, TAG } from '../../src/apk/package/signature/der.ts'
import { badSignature } from '../../src/apk/package/source.ts'

const DNS_NAME = der(0x82, Buffer.from('example.com'))
const DAMAGED = { name: 'PackageFault' }

t.test('a CRL that another issues is named by its issuer alone', async (t) => {
  const read = (...parts: readonly Buffer[]) => {
    const points = extension('2.5.29.31', sequence(sequence(...parts)), true)
    return readCertificate(createSigningKey({ kind: 'ec', extensions: [points] }).certificate)
  }
  t.doesNotThrow(() => read(tagged(2, DNS_NAME)))
  t.throws(() => read(tagged(3, DNS_NAME)), DAMAGED)
  t.throws(() => read(tagged(2)), DAMAGED, 'no name')
})

t.test('version 2 has unique identifiers, and needs no name of its subject', async (t) => {
  /** `more` follows the public key. */
  const read = (version: number, options: CertificateOptions, ...more: readonly Buffer[]) => {
    const { certificate } = createSigningKey({ kind: 'ec', ...options })
    const whole = new Der(certificate, () => badSignature('')).enter(TAG.sequence)
    const body = whole.take(TAG.sequence)
    const parts = [whole.takeWhole(TAG.sequence), whole.takeWhole(TAG.bitString)]
    const versioned = sequence(tagged(0, integer(version - 1)), body, ...more)
    return readCertificate(sequence(versioned, ...parts))
  }
  const uniqueId = der(0x81, Buffer.from([0, 1]))
  t.doesNotThrow(() => read(2, {}, uniqueId))
  t.throws(() => read(1, {}, uniqueId), DAMAGED, 'version 1 has none')
  const nobody = { subject: sequence() }
  t.doesNotThrow(() => read(2, nobody))
  t.throws(() => read(1, nobody), DAMAGED, 'version 1 needs one')
})
