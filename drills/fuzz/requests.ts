/**
 * The fuzzer's requests: a grammar over every route, with credentials, paths, queries, headers, bodies and framing.
 * Seed and index alone determine a request, so that it can be repeated.
 */
import { signatureOf } from '../../sim/device/signature.ts'
import type { RouteShape } from '../../src/http/route.ts'
import { Dice } from '../../testkit/dice.ts'
import { fuzzBody } from './bodies.ts'
import { mutate } from './mutations.ts'
import { QUERIES } from './routes.ts'
import { ODD_HEADERS, ODD_QUERY, ODD_SEGMENTS } from './values.ts'
import type { FuzzPhone, FuzzWorld } from './world.ts'

export interface FuzzRequest {
  readonly index: number
  readonly bytes: Buffer
  /** Its X-Request-ID, if it has a valid one. */
  readonly id: string | null
  readonly isHead: boolean
  /** Well formed unless mutated; nobody knows where a mutated one ends. */
  readonly isMutated: boolean
  /** The client leaves without reading. */
  readonly isAborted: boolean
  /** Its credential is right for this route: never 401. */
  readonly isProven: boolean
  /** A heartbeat with a good credential: only 200, or our own trouble. */
  readonly isHeartbeat: boolean
  /** Uses the device token that the database forgot: the only reason for 503 `not_provisioned`. */
  readonly isForgotten: boolean
}

const METHODS: readonly string[] = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'PATCH',
  'OPTIONS',
  'TRACE',
  'CONNECT',
]
const MUTATED = 0.35
const ABORTED = 0.02
const RIGHT = 0.8

export function fuzzRequest(
  world: FuzzWorld,
  routes: readonly RouteShape[],
  seed: number,
  index: number,
): FuzzRequest {
  const dice = new Dice(seed * 1_000_003 + index)
  const route = dice.pick(routes)
  const phone = dice.pick(world.phones)
  const isOtherMethod = dice.chance(0.08)
  const method = isOtherMethod ? dice.pick(METHODS) : route.method
  const isOddPath = dice.chance(0.15)
  const path = pathOf(dice, world, route, phone, isOddPath)
  const target = method === 'CONNECT' ? 'fuzz:443' : path + queryOf(dice, route)
  const { lines: credential, isRight } = credentialOf(dice, world, route, phone)
  const odd = dice.chance(0.25) ? [dice.pick(ODD_HEADERS), ...oddHeaders(dice)] : []
  const isMutated = dice.chance(MUTATED)
  const isAborted = !isMutated && dice.chance(ABORTED)
  const { id, lines: idLines } = requestIdOf(dice, `${isMutated || isAborted ? 'm' : 'q'}${index}`)
  const body = route.body === 0 && dice.chance(0.95) ? null : fuzzBody(dice, route)
  const signature =
    /action-result|ack$/.test(route.path) && dice.chance(0.2)
      ? [`X-Signature: ${signed(method, target, id, body?.content ?? Buffer.alloc(0), phone)}`]
      : []
  const head = [
    `${method} ${target} HTTP/1.1`,
    'Host: fuzz',
    ...shuffled(dice, [...credential, ...idLines, ...signature, ...odd, ...(body?.headers ?? [])]),
  ]
  const plain = Buffer.concat([
    Buffer.from(`${head.join('\r\n')}\r\n\r\n`, 'latin1'),
    body?.framed ?? Buffer.alloc(0),
  ])
  const isPlain = !isOtherMethod && !isOddPath && odd.length === 0
  const isProven = isRight && isPlain && signature.length === 0
  return {
    index,
    bytes: isMutated ? damaged(dice, plain) : plain,
    id,
    isHead: method === 'HEAD',
    isMutated,
    isAborted,
    isProven,
    isHeartbeat: route.path === '/v1/heartbeat' && isProven && body?.isTakenAsObject === true,
    isForgotten: plain.includes(world.forgottenToken),
  }
}

/** These two headers are logged as they come, and so would be a credential that damage moves there. */
const MISPLACED = /^(?:user-agent|x-request-id)[ \t]*:.*(?:bearer|[de]t_)/im

function damaged(dice: Dice, plain: Buffer): Buffer {
  const bytes = mutate(dice, plain)
  return MISPLACED.test(bytes.toString('latin1')) ? plain : bytes
}

function pathOf(
  dice: Dice,
  world: FuzzWorld,
  { path }: RouteShape,
  phone: FuzzPhone,
  isOdd: boolean,
): string {
  const known: Readonly<Record<string, readonly string[]>> = {
    device_id: path.endsWith('/ack') ? [phone.deviceId] : world.doomedDevices,
    token_id: world.doomedTokens,
    request_id: ['c1', 'c2', 'c3', 'c4', 'none'],
    job_id: ['j1', 'j2', 'none'],
    build_id: Array.from({ length: 100 }, (_, index) => `f${index}`),
  }
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) =>
    dice.chance(0.2) ? dice.pick(ODD_SEGMENTS) : dice.pick(known[name] ?? ODD_SEGMENTS),
  )
  if (!isOdd) return filled
  const segment = dice.pick(ODD_SEGMENTS)
  const odd = [`/${filled}`, `${filled}/`, `${filled}/${segment}`, `/${segment}${filled}`]
  return dice.pick([
    ...odd,
    filled.toUpperCase(),
    filled.replaceAll('/', '///'),
    `/${segment}`,
    '*',
  ])
}

function queryOf(dice: Dice, { method, path, guard }: RouteShape): string {
  // Admin routes refuse unknown and odd names.
  const fields = Object.entries(
    QUERIES[`${method} ${path}`] ?? (guard === 'admin' ? {} : { x: [] }),
  )
  const pairs = fields.flatMap(([name, good]) => {
    if (dice.chance(0.6)) return []
    const isGood = good.length > 0 && dice.chance(0.6)
    return [`${name}=${dice.pick(isGood ? good : ODD_QUERY)}`]
  })
  if (dice.chance(0.03)) pairs.push(dice.pick(ODD_QUERY))
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`
}

interface Credential {
  readonly lines: readonly string[]
  readonly isRight: boolean
}

function credentialOf(
  dice: Dice,
  world: FuzzWorld,
  { guard }: RouteShape,
  phone: FuzzPhone,
): Credential {
  const bearer = (token: string) => `Authorization: Bearer ${token}`
  if (!dice.chance(RIGHT)) {
    const { deadTokens, readerToken, adminToken } = world
    const token = dice.pick([...deadTokens, readerToken, adminToken, phone.token])
    const lines = [
      [],
      [bearer(token)],
      [`X-Device-Token: ${token}`],
      [`Authorization: Basic ${token}`],
    ]
    return { lines: dice.pick([...lines, [bearer(token), bearer(token)]]), isRight: false }
  }
  const device = dice.chance(0.8) ? bearer(phone.token) : `X-Device-Token: ${phone.token}`
  switch (guard) {
    case 'open':
      return { lines: [], isRight: true }
    case 'admin':
      return { lines: [bearer(world.adminToken)], isRight: true }
    case 'enrollment-token': // may be exhausted
      return { lines: [bearer(dice.pick(world.enrollmentTokens))], isRight: false }
    case 'downloader':
      return {
        lines: [dice.pick([device, bearer(dice.pick(world.enrollmentTokens))])],
        isRight: true,
      }
    case 'device':
    case 'device-token':
      return { lines: [device], isRight: true }
  }
}

function oddHeaders(dice: Dice): readonly string[] {
  if (dice.chance(0.05)) return Array.from({ length: 70 }, (_, index) => `X-${index}: a`)
  return dice.chance(0.3) ? [dice.pick(ODD_HEADERS)] : []
}

function requestIdOf(dice: Dice, id: string) {
  if (dice.chance(0.85)) return { id, lines: [`X-Request-ID: ${id}`] }
  const odd = [[], ['X-Request-ID: '], ['X-Request-ID: a b'], [`X-Request-ID: ${'x'.repeat(129)}`]]
  return { id: null, lines: dice.pick(odd) }
}

function signed(
  method: string,
  path: string,
  id: string | null,
  body: Buffer,
  { hmacKey }: FuzzPhone,
): string {
  const headers = { 'x-request-id': id ?? '' }
  return signatureOf({ method: method as 'POST', path, headers, body }, hmacKey, Date.now())
}

function shuffled(dice: Dice, lines: readonly string[]): readonly string[] {
  return lines
    .map((line) => ({ line, at: dice.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ line }) => line)
}
