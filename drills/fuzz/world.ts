/** What the fuzzer's requests refer to: phones, tokens and a build, made through the public API. */
import { createHmac, randomBytes } from 'node:crypto'
import { makeApk } from '../../sim/apk.ts'
import { registrationBody } from '../../sim/device/body.ts'
import {
  bodyOf,
  createSend,
  type HttpRequest,
  type JsonObject,
  jsonHeaders,
  textOf,
} from '../../testkit/http/client.ts'

export interface FuzzWorld {
  readonly adminToken: string
  readonly readerToken: string
  /** Their credentials stay good: fuzzed requests refer to them only by alias, to send commands. */
  readonly phones: readonly FuzzPhone[]
  /** Devices that requests may delete. */
  readonly doomedDevices: readonly string[]
  /** Enrollment tokens that requests may revoke. */
  readonly doomedTokens: readonly string[]
  /** Unbound, with many uses. */
  readonly enrollmentTokens: readonly string[]
  /** Credentials that authenticate nobody: replaced, forgotten by the database, made up. */
  readonly deadTokens: readonly string[]
  /** One of these: issued by us, unknown to the database. */
  readonly forgottenToken: string
}

export interface FuzzPhone {
  readonly token: string
  readonly deviceId: string
  readonly hmacKey: string
}

/** One per connection: a phone's waiting heartbeats are bounded. */
const PHONES = 64
const DOOMED = 40
const ENROLLMENT_TOKENS = 20
const MAX_BATCH = 100

export async function createFuzzWorld(
  origin: string,
  secrets: {
    readonly adminToken: string
    readonly readerToken: string
    readonly hmacSecret: string
  },
): Promise<FuzzWorld> {
  const send = createSend(origin)
  const asked = async (request: HttpRequest): Promise<JsonObject> => {
    const response = await send(request)
    if (response.status < 300) return bodyOf(response)
    throw new Error(`${request.method} ${request.path} was answered with ${response.status}`)
  }
  const admin = jsonHeaders(secrets.adminToken)
  const issue = async (aliases: readonly (string | null)[], usesAllowed: number) => {
    const body = JSON.stringify({ aliases, uses_allowed: usesAllowed, expires_in_sec: 86_400 })
    const response = await asked({
      method: 'POST',
      path: '/v1/enroll-tokens',
      headers: admin,
      body,
    })
    return response['tokens'] as readonly JsonObject[] // of the contract
  }
  const enroll = async (aliases: readonly string[]): Promise<readonly FuzzPhone[]> => {
    const phones: FuzzPhone[] = []
    for (const token of await issue(aliases, 1)) {
      const headers = jsonHeaders(textOf(token, 'token'))
      const body = registrationBody(textOf(token, 'alias'), null)
      const made = await asked({ method: 'POST', path: '/v1/register', headers, body })
      phones.push({
        token: textOf(made, 'device_token'),
        deviceId: textOf(made, 'device_id'),
        hmacKey: textOf(made, 'hmac_key'),
      })
    }
    return phones
  }
  const names = (prefix: string, count: number) =>
    Array.from({ length: count }, (_, index) => `${prefix}${index}`)

  const phones = await enroll(names('P', PHONES))
  const doomed = await enroll(names('X', DOOMED))
  const replaced = await enroll(['R1'])
  await enroll(['R1'])
  const build = '/admin/apk/builds/b1?version_code=1000000'
  await asked({
    method: 'PUT',
    path: build,
    headers: admin,
    body: makeApk({ versionCode: 1_000_000 }),
  })
  const doomedTokens = await issue(new Array(MAX_BATCH).fill(null), 1)
  const enrollmentTokens = await issue(new Array(ENROLLMENT_TOKENS).fill(null), 1_000)
  const forgottenToken = forgottenTokenOf(secrets.hmacSecret)
  return {
    adminToken: secrets.adminToken,
    readerToken: secrets.readerToken,
    phones,
    doomedDevices: doomed.map(({ deviceId }) => deviceId),
    doomedTokens: doomedTokens.map((token) => textOf(token, 'token_id')),
    enrollmentTokens: enrollmentTokens.map((token) => textOf(token, 'token')),
    deadTokens: [
      ...replaced.map(({ token }) => token),
      forgottenToken,
      `dt_${'w'.repeat(43)}`,
      `et_${'w'.repeat(43)}`,
      'legacy-token',
    ],
    forgottenToken,
  }
}

/** With the secret's tag, but unknown to every database. */
function forgottenTokenOf(hmacSecret: string): string {
  const random = randomBytes(26)
  const tag = createHmac('sha256', hmacSecret).update('device-token:v1:').update(random).digest()
  return `dt_${Buffer.concat([random, tag.subarray(0, 6)]).toString('base64url')}`
}
