/** RSA keys of a signature: those that anyone could sign with are refused. */
import t from 'tap'
import { bits, integer, nothing, objectId, sequence } from '../../sim/apk/der.ts'
import { readPublicKey } from '../../src/apk/package/signature/algorithms.ts'

/** An odd number of that many bits. */
const modulusOf = (size: number) => {
  const modulus = Buffer.alloc(Math.ceil(size / 8), 0xff)
  modulus[0] = 0xff >> ((8 - (size % 8)) % 8)
  return modulus
}
const keyOf = (modulus: Uint8Array, exponent: number | Uint8Array) =>
  sequence(
    sequence(objectId('1.2.840.113549.1.1.1'), nothing),
    bits(sequence(integer(modulus), integer(exponent))),
  )
const REFUSED = { kind: 'signature', message: /of a kind that apksigner does not verify/ }

t.test('an RSA key has an exponent of 3 or more', async (t) => {
  const modulus = modulusOf(1_024)
  for (const exponent of [0, 1, 2, Buffer.from([0, 0, 2])]) {
    t.throws(() => readPublicKey(keyOf(modulus, exponent)), REFUSED)
  }
  for (const exponent of [3, 5, Buffer.from([1, 0, 1]), Buffer.from([0, 0, 1, 0, 1])]) {
    t.equal(readPublicKey(keyOf(modulus, exponent)).asymmetricKeyType, 'rsa')
  }
})

t.test('an RSA key has 512 bits or more', async (t) => {
  const exponent = Buffer.from([1, 0, 1])
  for (const modulus of [modulusOf(511), Buffer.concat([Buffer.alloc(8), modulusOf(511)])]) {
    t.throws(() => readPublicKey(keyOf(modulus, exponent)), REFUSED)
  }
  t.equal(readPublicKey(keyOf(modulusOf(512), exponent)).asymmetricKeyType, 'rsa')
})
