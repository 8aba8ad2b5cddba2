/** Bodies of fuzzed requests: JSON with a route's fields, odd and broken JSON, APKs; and their framing. */
import { MIN_APK_BYTES, makeApk } from '../../sim/apk.ts'
import type { RouteShape } from '../../src/http/route.ts'
import type { Dice } from '../../testkit/dice.ts'
import { BODIES, type Fields } from './routes.ts'
import { BROKEN_JSON, NO_OBJECT, ODD_JSON, ODD_NAMES } from './values.ts'

export interface FuzzBody {
  readonly content: Buffer
  /** Content-Length or Transfer-Encoding, and the type. */
  readonly headers: readonly string[]
  /** The bytes on the wire. */
  readonly framed: Buffer
  /** A JSON object within the limits, with an accepted type and framing. */
  readonly isTakenAsObject: boolean
}

const KIB = 1024
/** From so many on, the service may refuse them. */
const MAX_SMALL_CHUNKS = 256
const MOST_TINY_BYTES = 4
const APKS = Array.from({ length: 8 }, (_, index) =>
  makeApk({ sizeBytes: MIN_APK_BYTES + 500 * index, seed: String(index) }),
)
const GOOD_TYPES: readonly string[] = ['application/json', 'application/json; charset=utf-8']
const BAD_TYPES: readonly string[] = ['text/plain', 'application/jsonx', 'multipart/form-data', '']
/** Not UTF-8. */
const BAD_BYTES: readonly string[] = ['ff', 'c0af', 'eda080', 'f4908080', 'e282', 'efbbbf7b7d']

export function fuzzBody(dice: Dice, { path, method, body }: RouteShape): FuzzBody {
  const fields = BODIES[path] ?? {}
  const content = method === 'PUT' ? fuzzApk(dice) : fuzzJson(dice, fields)
  const isGoodType = dice.chance(0.95)
  const type = dice.pick(isGoodType ? GOOD_TYPES : BAD_TYPES)
  const types = dice.chance(0.05) ? [] : [`Content-Type: ${type}`]
  const { headers, framed, isTaken } = frame(dice, content)
  const isWithin = typeof body === 'number' && content.length <= body
  const isTakenAsObject =
    (isGoodType || types.length === 0) && isTaken && isWithin && isObject(content)
  return { content, headers: [...types, ...headers], framed, isTakenAsObject }
}

function fuzzApk(dice: Dice): Buffer {
  const apk = Buffer.from(dice.pick(APKS))
  if (dice.chance(0.5)) return apk
  if (dice.chance(0.5)) return apk.subarray(0, dice.below(apk.length))
  for (let flips = 1 + dice.below(8); flips > 0; flips -= 1)
    apk[dice.below(apk.length)] = dice.below(256)
  return apk
}

function fuzzJson(dice: Dice, fields: Fields): Buffer {
  const kind = dice.random()
  if (kind < 0.04) return Buffer.from(dice.pick(BROKEN_JSON))
  if (kind < 0.06) return Buffer.from(dice.pick(NO_OBJECT))
  if (kind < 0.07) return Buffer.from(dice.pick(ODD_JSON))
  const isOdd = dice.chance(0.5)
  const members = Object.entries(fields).flatMap(([name, good]) => {
    if (dice.chance(0.35)) return []
    const value = isOdd && dice.chance(0.3) ? dice.pick(ODD_JSON) : dice.pick(good)
    return [`${JSON.stringify(name)}:${value}`]
  })
  if (isOdd && dice.chance(0.3)) members.push(`"${dice.pick(ODD_NAMES)}":${dice.pick(ODD_JSON)}`)
  if (isOdd && members.length > 0 && dice.chance(0.2)) members.push(dice.pick(members))
  if (dice.chance(0.01)) members.push(`"padding":"${'p'.repeat(dice.pick([17, 63, 65]) * KIB)}"`)
  const text = Buffer.from(`{${members.join(dice.chance(0.1) ? ' ,\n' : ',')}}`)
  if (kind > 0.97) return withBadBytes(dice, text)
  return text
}

function withBadBytes(dice: Dice, text: Buffer): Buffer {
  const at = dice.below(text.length + 1)
  const bad = Buffer.from(dice.pick(BAD_BYTES), 'hex')
  return Buffer.concat([text.subarray(0, at), bad, text.subarray(at)])
}

interface Framing extends Pick<FuzzBody, 'headers' | 'framed'> {
  /** It is read to its end. */
  readonly isTaken: boolean
}

function frame(dice: Dice, content: Buffer): Framing {
  if (dice.chance(0.8)) {
    return { headers: [`Content-Length: ${content.length}`], framed: content, isTaken: true }
  }
  const pieces: Buffer[] = []
  let chunks = 0
  const mostBytes = dice.chance(0.2) ? 1 + dice.below(MOST_TINY_BYTES) : 1 + content.length
  for (let at = 0; at < content.length; chunks += 1) {
    const sizeBytes = Math.min(content.length - at, 1 + dice.below(mostBytes))
    const size = sizeBytes.toString(16)
    const line = dice.pick([size, size.toUpperCase(), `0${size}`, `${size};a=b`])
    pieces.push(
      Buffer.from(`${line}\r\n`),
      content.subarray(at, at + sizeBytes),
      Buffer.from('\r\n'),
    )
    at += sizeBytes
  }
  const end = dice.pick(['0\r\n\r\n', '000\r\n\r\n', '0\r\nX-Trailer: a\r\n\r\n'])
  const framed = Buffer.concat([...pieces, Buffer.from(end)])
  const upgrade = dice.chance(0.03) ? ['Connection: upgrade', 'Upgrade: h2c'] : []
  return {
    headers: [dice.pick(['Transfer-Encoding: chunked', 'transfer-encoding: Chunked']), ...upgrade],
    framed,
    isTaken: upgrade.length === 0 && chunks < MAX_SMALL_CHUNKS,
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function isObject(content: Buffer): boolean {
  try {
    const value: unknown = JSON.parse(utf8.decode(content))
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}
