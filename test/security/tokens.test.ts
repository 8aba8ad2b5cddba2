/** Device tokens: the tag that is made by hand is HMAC-SHA256 for every secret, and nothing else fits. */
import { createHash, createHmac, randomBytes } from 'node:crypto'
import t from 'tap'
import { deviceTagCheck, hashToken, issueDeviceToken } from '../../src/security/tokens.ts'

/** As http-api.md writes it. */
function tokenOf(secret: string, random: Buffer): string {
  const mac = createHmac('sha256', secret).update('device-token:v1:').update(random).digest()
  return `dt_${Buffer.concat([random, mac.subarray(0, 6)]).toString('base64url')}`
}

const SECRETS = [1, 24, 63, 64, 65, 200].map((length) => 's'.repeat(length))
SECRETS.push('ключ-для-жетонов-устройств', '鍵'.repeat(30))

t.test(
  'tokens are issued and checked as HMAC-SHA256 says, whatever the length of the secret',
  (t) => {
    for (const text of SECRETS) {
      const secret = { id: 'default', secret: text }
      const isOurs = deviceTagCheck([secret])
      for (let round = 0; round < 20; round += 1) {
        const random = randomBytes(26)
        const expected = tokenOf(text, random)
        const issued = issueDeviceToken(secret, () => random)
        t.equal(issued.token, expected)
        t.same(issued.hash, createHash('sha256').update(expected).digest())
        t.same(hashToken(expected), issued.hash)
        t.ok(isOurs(expected))
      }
    }
    t.end()
  },
)

const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

t.test('a token of another secret, or changed in any character, is not ours', (t) => {
  const [first = '', second = ''] = SECRETS
  const both = deviceTagCheck([
    { id: 'a', secret: first },
    { id: 'b', secret: second },
  ])
  const one = deviceTagCheck([{ id: 'a', secret: first }])
  const random = randomBytes(26)
  t.ok(both(tokenOf(second, random)))
  t.notOk(one(tokenOf(second, random)))
  const token = tokenOf(first, random)
  for (let at = 3; at < token.length; at += 1) {
    const others = [...BASE64URL].filter((character) => character !== token[at])
    const taken = others.filter((other) =>
      one(`${token.slice(0, at)}${other}${token.slice(at + 1)}`),
    )
    t.same(taken, [], `character ${at}`)
  }
  for (const odd of [
    '',
    'dt_',
    `${token}A`,
    token.slice(0, -1),
    `et_${token.slice(3)}`,
    `${token}=`,
  ]) {
    t.notOk(one(odd), odd)
  }
  t.ok(one(token), 'and what was checked before leaves no trace')
  t.end()
})
