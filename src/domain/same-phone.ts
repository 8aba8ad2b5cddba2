/** Decides whether two registrations come from one phone. Many phones share a made-up serial, so an id may prove nothing. */

/** From a registration; null if not given. */
export interface PhoneFacts {
  readonly hardwareId: string | null
  readonly model: string | null
  readonly manufacturer: string | null
  readonly androidVersion: string | null
}

/** As the audit log names it. */
export type SamePhoneProof = 'hardware_id' | 'description'

/** Values that mean "no value", in lower-case letters and digits only. `Build.UNKNOWN` is `unknown`. */
const NO_VALUE: ReadonlySet<string> = new Set([
  '',
  ...['unknown', 'null', 'none', 'nil', 'na', 'nan', 'undefined', 'unset', 'empty', 'false'],
  ...['notset', 'notavailable', 'unavailable', 'notapplicable', 'notspecified', 'notsupported'],
  ...['default', 'defaultstring', 'tobefilledbyoem', 'systemserialnumber', 'redacted', 'error'],
  ...['emptystring', 'blank', 'missing', 'invalid', 'restricted', 'denied', 'objectobject'],
])

/**
 * Ids that many phones share: names of the field, the ANDROID_ID of Android 2.2, Android's constant MAC, the emulator's
 * IMEI, the serial of cheap tablets, names of boards (`Build.HARDWARE`), limits of integers.
 */
const SHARED_IDS: ReadonlySet<string> = new Set([
  ...['serial', 'serialnumber', 'noserial', 'nosn', 'noid', 'deviceid', 'androidid', 'hardwareid'],
  ...['string', 'placeholder', 'dummy', 'sample', 'example', 'tbd', 'todo', 'hidden', 'anonymous'],
  ...['android', 'generic', 'test', 'imei', 'mac', 'qcom', 'goldfish', 'ranchu'],
  ...['9774d56d682e549c', '020000000000', '358240051111110', '004999010640000', '20080411'],
  ...['deadbeef', 'cafebabe', '2147483647', '2147483648'],
])

/**
 * A repeated part, such as 0000000000000000 or deadbeefdeadbeef; zeros and one digit; serials and models of emulators;
 * `unknown-…` and `…-unknown`; error messages; further names of boards.
 */
const SHARED_PATTERN =
  /^(.)\1*$|^(?=.{8})(.{2,8})\2+$|^0{11,}.$|^emulator|^sdkgphone|^androidsdk|^unknown|unknown$|exception|permission|not(found|allowed)|^(mt|msm|sdm|exynos|universal|kirin)\d{3,4}$/

/** Ids that count up or down, such as 0123456789ABCDEF, 1234567890 or fedcba9876543210. */
const UP = [
  '0123456789abcdef'.repeat(9),
  '0123456789'.repeat(14),
  '1234567890abcdef',
  'abcdefghijklmnopqrstuvwxyz',
]
const COUNTING = [...UP, ...UP.map((run) => [...run].reverse().join(''))]
const MIN_COUNTING_LENGTH = 6
/** Ids whose pairs count, such as 00:11:22:33:44:55 or 0102030405060708. Four pairs do not do so by chance. */
const MIN_PAIRS = 4

/** False if the id is missing, known to be shared by many phones, or merely the name of the model. */
export function isIdentifying(phone: Omit<PhoneFacts, 'androidVersion'>): boolean {
  const id = lettersAndDigits(phone.hardwareId)
  const model = lettersAndDigits(phone.model)
  const maker = lettersAndDigits(phone.manufacturer)
  if ([model, maker, maker + model].includes(id)) return false
  const isCounting = id.length >= MIN_COUNTING_LENGTH && COUNTING.some((run) => run.includes(id))
  const isShared = NO_VALUE.has(id) || SHARED_IDS.has(id) || SHARED_PATTERN.test(id)
  return !isShared && !isCounting && !isCountingInPairs(id)
}

function isCountingInPairs(id: string): boolean {
  if (id.length % 2 !== 0 || id.length < 2 * MIN_PAIRS || !/^[0-9a-f]+$/.test(id)) return false
  const pairs = [...Buffer.from(id, 'hex')]
  return pairs.every(
    (pair, at) => at < 2 || 2 * (pairs[at - 1] ?? 0) === pair + (pairs[at - 2] ?? 0),
  )
}

/**
 * Returns how both registrations prove to come from one phone, or undefined. A phone never changes its model or
 * manufacturer, so these must agree if both registrations name them. Then an identifying id is enough. Without one, both
 * must name the same model, manufacturer and Android version.
 */
export function samePhoneProof(first: PhoneFacts, again: PhoneFacts): SamePhoneProof | undefined {
  if (first.hardwareId !== again.hardwareId) return undefined
  if (!isSame(first.model, again.model) || !isSame(first.manufacturer, again.manufacturer)) {
    return undefined
  }
  if (isIdentifying(first) && isIdentifying(again)) return 'hardware_id'
  const isDescribed = (['model', 'manufacturer', 'androidVersion'] as const).every(
    (name) => first[name] === again[name] && !NO_VALUE.has(lettersAndDigits(first[name])),
  )
  return isDescribed ? 'description' : undefined
}

/** True also if one of them has no value. */
function isSame(first: string | null, again: string | null): boolean {
  const [one, other] = [lettersAndDigits(first), lettersAndDigits(again)]
  return one === other || NO_VALUE.has(one) || NO_VALUE.has(other)
}

function lettersAndDigits(text: string | null): string {
  return (text ?? '')
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '')
}
