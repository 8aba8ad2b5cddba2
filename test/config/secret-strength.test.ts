/** Distinguishes invented secrets from random ones. */
import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import t from 'tap'
import { apparentBits } from '../../src/config/secret-strength.ts'

const NEEDED = 128

t.test('32 random bytes are never taken for weak', async (t) => {
  for (const encoding of ['hex', 'base64', 'base64url', 'base64'] as const) {
    const secrets = Array.from({ length: 2_500 }, () => randomBytes(32).toString(encoding))
    const weak = secrets.filter((secret) => apparentBits(secret) < NEEDED)
    t.same(weak, [], encoding)
    t.same(
      secrets.slice(0, 100).filter((each) => apparentBits(each.toUpperCase()) < NEEDED),
      [],
    )
  }
})

t.test('an estimate does not exceed what was drawn', async (t) => {
  for (const bytes of [8, 12, 15]) {
    t.ok(apparentBits(randomBytes(bytes).toString('hex')) <= bytes * 8)
    t.ok(apparentBits(`dev-${randomBytes(bytes).toString('hex')}`) <= (bytes + 2) * 8)
  }
  t.ok(apparentBits(randomUUID()) < NEEDED)
  t.equal(apparentBits('d41d8cd98f00b204e9800998ecf8427e'), NEEDED, '16 bytes in hex')
})

t.test('each character counts as one of its own alphabet', async (t) => {
  const [digits, letters] = ['0123456789', 'abcdefghijklmnopqrstuvwxyz']
  const alphabets = [digits, 'abcdef0123456789', letters, letters + digits].flatMap((alphabet) => [
    alphabet,
    alphabet.toUpperCase(),
  ])
  for (const alphabet of [...alphabets, `${alphabets.join('')}+/`]) {
    const size = new Set(alphabet).size
    const secret = Array.from({ length: 40 }, () => alphabet[randomInt(alphabet.length)]).join('')
    t.ok(apparentBits(secret) <= 40 * Math.log2(size) + 0.01, `${size} characters: ${secret}`)
  }
})

t.test('what repeats, counts, lies on the keyboard or reads like words is weak', async (t) => {
  for (const secret of [
    '',
    'a'.repeat(32),
    'a'.repeat(100_000),
    'ab'.repeat(20),
    'changeme'.repeat(4),
    'abcdefghijklmnopqrstuvwxyz012345',
    '0123456789abcdef0123456789abcdef',
    '00112233445566778899aabbccddeeff',
    'qwertyuiopasdfghjklzxcvbnm1234567890',
    'my-super-secret-key-please-change-me',
    'REPLACE_ME_WITH_A_RANDOM_SECRET_OF_32_BYTES',
    'CorrectHorseBatteryStapleFleetLoop2024',
    'P@ssw0rdP@ssw0rdP@ssw0rd!',
    'p4ssw0rd-f0r-th3-s3rv3r-2024',
    'ich-bin-ein-sehr-geheimes-passwort-bitte',
    '20240101-20240102-20240103-2024',
    '1234567890'.repeat(4),
    'deadbeefdeadbeefdeadbeefdeadbeef',
  ]) {
    t.ok(apparentBits(secret) < NEEDED, secret.slice(0, 50))
  }
})
