/** Tokens: the tag that is made by hand is HMAC-SHA256 for every secret, nothing else fits, and it decides who looks a token up. */
import { createHash, createHmac, randomBytes } from 'node:crypto'
import t from 'tap'
import type { EnrollmentVerdict, HmacSecret } from '../../src/domain/identity.ts'
import { createDeadTokens } from '../../src/security/dead-tokens.ts'
import { createGuards } from '../../src/security/guard.ts'
import {
  batchTokens,
  deviceTagCheck,
  enrollmentTagCheck,
  hashToken,
  issueDeviceToken,
  issueEnrollmentToken,
} from '../../src/security/tokens.ts'

const KINDS = {
  dt: { context: 'device-token:v1:', issue: issueDeviceToken, check: deviceTagCheck },
  et: { context: 'enroll-token:v1:', issue: issueEnrollmentToken, check: enrollmentTagCheck },
} as const
type Prefix = keyof typeof KINDS

/** From the definition of the tag, by Node's own HMAC. */
function tokenOf(prefix: Prefix, secret: string, random: Buffer): string {
  const mac = createHmac('sha256', secret).update(KINDS[prefix].context).update(random).digest()
  return `${prefix}_${Buffer.concat([random, mac.subarray(0, 6)]).toString('base64url')}`
}

const SECRETS = [1, 24, 63, 64, 65, 200].map((length) => 's'.repeat(length))
SECRETS.push('ключ-для-жетонов-устройств', '鍵'.repeat(30))
const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

// Made by Python's hmac: they hold for every release, or the tokens in use are worth nothing.
t.test('golden vectors', async (t) => {
  const secret = { id: 'default', secret: 'golden-hmac-secret-0123456789abcdef' }
  const random = Buffer.from(Array.from({ length: 26 }, (_, index) => index))
  for (const [prefix, token, hash] of [
    [
      'dt',
      'dt_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkTMrQBVu8',
      'd83d27b0465ce2d9be37c2e62cfaf9050fa8625d6427a0db911111bb24bc3968',
    ],
    [
      'et',
      'et_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkAgvJkS1U',
      '412c60c985766483906d8b41a233036ae2c87499e989c564923690c082575e3a',
    ],
  ] as const) {
    const issued = KINDS[prefix].issue(secret, () => random)
    t.same([issued.token, issued.hash.toString('hex')], [token, hash])
    t.ok(KINDS[prefix].check([secret])(token))
  }
})

t.test(
  'the tokens of a batch are made of the secret and the seed, and of both alone',
  async (t) => {
    const [old, young] = [
      { id: 'default', secret: 'golden-hmac-secret-0123456789abcdef' },
      { id: 'b', secret: 'another-hmac-secret-0123456789abcdef' },
    ]
    const batch = batchTokens(old, [old], randomBytes)
    const seed = Buffer.from(Array.from({ length: 32 }, (_, index) => index))
    const issued = Array.from({ length: 100 }, (_, index) => batch.issue(seed, index))
    t.equal(new Set(issued.map(({ token }) => token)).size, 100)
    t.same(
      issued[0],
      issueEnrollmentToken(old, () => randomOf(old.secret, 0, seed)),
    )
    t.same(
      issued[99],
      issueEnrollmentToken(old, () => randomOf(old.secret, 99, seed)),
    )
    const rotated = batchTokens(young, [young, old], randomBytes)
    const gone = batchTokens(young, [young], randomBytes)
    for (const [index, { token, hash }] of issued.entries()) {
      t.ok(enrollmentTagCheck([old])(token))
      t.same(hash, hashToken(token))
      t.not(gone.issue(seed, index).token, token)
      t.equal(rotated.remake(seed, index, hash), token, 'after a rotation')
      t.equal(gone.remake(seed, index, hash), undefined)
      t.equal(batch.remake(batch.newSeed(), index, hash), undefined)
      t.equal(batch.remake(seed, index + 1, hash), undefined)
    }
    t.equal(batch.newSeed().length, 32)
    t.notSame(batch.newSeed(), batch.newSeed())
  },
)

/** From the definition, by Node's own HMAC. */
function randomOf(secret: string, index: number, seed: Buffer): Buffer {
  const text = Buffer.concat([Buffer.from(`enroll-token-batch:v1:${index}:`), seed])
  return createHmac('sha256', secret).update(text).digest().subarray(0, 26)
}

for (const prefix of ['dt', 'et'] as const) {
  const { issue, check } = KINDS[prefix]

  t.test(`${prefix}_: as HMAC-SHA256 says, whatever the length of the secret`, async (t) => {
    for (const text of SECRETS) {
      const secret = { id: 'default', secret: text }
      const isOurs = check([secret])
      for (let round = 0; round < 20; round += 1) {
        const random = randomBytes(26)
        const expected = tokenOf(prefix, text, random)
        const issued = issue(secret, () => random)
        t.equal(issued.token, expected)
        t.same(issued.hash, createHash('sha256').update(expected).digest())
        t.same(hashToken(expected), issued.hash)
        t.ok(isOurs(expected))
      }
    }
  })

  t.test(`${prefix}_: of another secret, or changed in any character, is not ours`, async (t) => {
    const [first = '', second = ''] = SECRETS
    const both = check([
      { id: 'a', secret: first },
      { id: 'b', secret: second },
    ])
    const one = check([{ id: 'a', secret: first }])
    const random = randomBytes(26)
    t.ok(both(tokenOf(prefix, second, random)))
    t.notOk(one(tokenOf(prefix, second, random)))
    const token = tokenOf(prefix, first, random)
    for (let at = 3; at < token.length; at += 1) {
      const others = [...BASE64URL].filter((character) => character !== token[at])
      const taken = others.filter((other) =>
        one(`${token.slice(0, at)}${other}${token.slice(at + 1)}`),
      )
      t.same(taken, [], `character ${at}`)
    }
    const other = prefix === 'dt' ? 'et' : 'dt'
    for (const odd of [
      '',
      `${prefix}_`,
      `${token}A`,
      token.slice(0, -1),
      `${other}_${token.slice(3)}`,
      `${prefix}_${tokenOf(other, first, random).slice(3)}`,
      `${token}=`,
    ]) {
      t.notOk(one(odd), odd)
    }
    t.ok(one(token), 'and what was checked before leaves no trace')
  })
}

/** Guards with these secrets, whose look-ups give `kind`, and the names of the look-ups that were made. */
function guardsOf(hmacSecrets: readonly HmacSecret[], kind: 'unknown' | 'active' | 'revoked') {
  const asked: string[] = []
  const judging = (name: string) => async (): Promise<EnrollmentVerdict> => {
    asked.push(name)
    if (kind === 'unknown') return { kind }
    return { kind, tokenId: 'id-of-token', alias: null, usesAllowed: 1 }
  }
  let nowMs = 0
  const deadTokens = createDeadTokens(() => nowMs)
  const { enrollmentToken, downloader } = createGuards({
    deadTokens,
    adminTokens: [],
    hmacSecrets,
    authenticateDevice: async () => ({ kind: 'unknown' }),
    enrollmentTokens: { judge: judging('judge'), judgeUntagged: judging('judgeUntagged') },
    hasDevices: async () => true,
  })
  const headers = (token: string) => ({ authorization: `Bearer ${token}` })
  const about = { deviceId: null, alias: null, admin: null, tokenId: null }
  return {
    asked,
    register: (token: string) => enrollmentToken(headers(token), about),
    download: (token: string) => downloader(headers(token), about),
    pass: (ms: number) => {
      nowMs += ms
    },
    deadTokens,
    about,
  }
}

t.test(
  'an enrollment token with a tag of any secret is not judged as an untagged one',
  async (t) => {
    const [now, old, gone] = ['now', 'old', 'gone'].map((id) => ({ id, secret: id.repeat(20) }))
    if (now === undefined || old === undefined || gone === undefined)
      throw new Error('three secrets')
    const configured = [now, old]
    for (const secret of configured) {
      const { token, hash } = issueEnrollmentToken(secret, randomBytes)
      const guards = guardsOf(configured, 'active')
      t.same(await guards.register(token), { tokenHash: hash })
      t.same(guards.asked, [], `${secret.id}: registration looks it up`)
      await guards.download(token)
      t.same(guards.asked, ['judge'], secret.id)
    }

    // Its secret was removed, or release 0.1 issued it: it may be a good one.
    for (const token of [
      issueEnrollmentToken(gone, randomBytes).token,
      `et_${randomBytes(32).toString('base64url')}`,
    ]) {
      const known = guardsOf(configured, 'active')
      t.same(await known.register(token), { tokenHash: hashToken(token) })
      t.match(await known.download(token), { downloader: { source: 'enrollment' } })
      t.same(known.asked, ['judgeUntagged', 'judgeUntagged'])
      const revoked = guardsOf(configured, 'revoked')
      t.same(
        await revoked.register(token),
        { tokenHash: hashToken(token) },
        'registration refuses it',
      )
      await t.rejects(revoked.download(token), { code: 'token_revoked' })
      const unknown = guardsOf(configured, 'unknown')
      await t.rejects(unknown.register(token), { code: 'token_unknown' })
      await t.rejects(unknown.download(token), { code: 'token_unknown' })
      t.same(unknown.asked, ['judgeUntagged', 'judgeUntagged'])
    }
  },
)

t.test('a dead token is refused without a look-up for ten seconds', async (t) => {
  const secret = { id: 'now', secret: 'now'.repeat(20) }
  const issued = issueEnrollmentToken(secret, randomBytes)
  const untagged = { token: `et_${randomBytes(32).toString('base64url')}` }
  for (const { token } of [issued, untagged]) {
    const guards = guardsOf([secret], 'revoked')
    const first = await guards.download(token).catch((error: unknown) => error)
    guards.asked.length = 0
    guards.pass(9_999)
    guards.about.tokenId = null
    t.strictSame(await guards.register(token).catch((error: unknown) => error), first)
    t.match(guards.about, { tokenId: 'oken' })
    await t.rejects(guards.download(token), { code: 'token_revoked' })
    t.same(guards.asked, [])
    guards.pass(1)
    await t.rejects(guards.download(token), { code: 'token_revoked' })
    t.equal(guards.asked.length, 1, 'it may have come back with a restored database')
  }
})

t.test('only what is final is remembered, of so many tokens', async (t) => {
  const dead = createDeadTokens(() => 0)
  const verdict = { tokenId: 'id', alias: null, usesAllowed: 1 }
  const hashes = Array.from({ length: 1_025 }, (_, nth) => hashToken(`${nth}`))
  const [oldest = Buffer.alloc(0), next = Buffer.alloc(0)] = hashes
  for (const kind of ['active', 'exhausted'] as const) dead.note(oldest, { ...verdict, kind })
  dead.note(oldest, { kind: 'unknown' })
  t.equal(dead.find(oldest), undefined)
  for (const hash of hashes) dead.note(hash, { ...verdict, kind: 'expired' })
  t.equal(dead.find(oldest), undefined)
  t.match(dead.find(next), { kind: 'expired' })
})

t.test('another spelling of an enrollment token is none, and costs no look-up', async (t) => {
  const secret = { id: 'now', secret: 'now'.repeat(20) }
  const { token } = issueEnrollmentToken(secret, randomBytes)
  const last = BASE64URL.indexOf(token.slice(-1))
  for (const unused of [1, 2, 3]) {
    const guards = guardsOf([secret], 'active')
    const spelled = `${token.slice(0, -1)}${BASE64URL[last + unused]}`
    t.same(Buffer.from(spelled.slice(3), 'base64url'), Buffer.from(token.slice(3), 'base64url'))
    await t.rejects(guards.register(spelled), { code: 'token_unknown' })
    t.same(guards.asked, [])
  }
})
