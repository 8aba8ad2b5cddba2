/** Whether two registrations come from one phone. Many phones share a made-up serial, so an id alone may prove nothing. */

/** As a registration gives them; null where it does not. */
export interface PhoneFacts {
  readonly hardwareId: string | null
  readonly model: string | null
  readonly manufacturer: string | null
  readonly androidVersion: string | null
}

/** What proved it, as the audit log names it. */
export type SamePhoneProof = 'hardware_id' | 'description'

/** Values that stand for "no value": in letters and digits only, lower case. `Build.UNKNOWN` is `unknown`. */
const NO_VALUE: ReadonlySet<string> = new Set([
  '',
  ...['unknown', 'null', 'none', 'nil', 'na', 'nan', 'undefined', 'unset', 'empty', 'false'],
  ...['notset', 'notavailable', 'unavailable', 'notapplicable', 'notspecified', 'notsupported'],
  ...['default', 'defaultstring', 'tobefilledbyoem', 'systemserialnumber', 'redacted', 'error'],
])

/** Ids that many phones share: names of the field, ANDROID_ID of Android 2.2, Android's constant MAC, the emulator's IMEI. */
const SHARED_IDS: ReadonlySet<string> = new Set([
  ...['serial', 'serialnumber', 'noserial', 'deviceid', 'androidid', 'hardwareid', 'imei'],
  ...['android', 'generic', 'test'],
  ...['9774d56d682e549c', '020000000000', '358240051111110', '004999010640000'],
])

/** One character throughout, such as 0000000000000000 or ******; the emulator's serials; a spelt-out `unknown-…`. */
const SHARED_PATTERN = /^(.)\1*$|^emulator|^unknown/

/** Digits that count up, such as 0123456789ABCDEF, 1234567890 or 012345678901234. */
const COUNTING = ['0123456789abcdef'.repeat(9), '0123456789'.repeat(14)]
const MIN_COUNTING_LENGTH = 6

/** False for what is absent, or known to be the same on many phones. */
export function isIdentifying(hardwareId: string | null): boolean {
  const id = lettersAndDigits(hardwareId)
  const isCounting = id.length >= MIN_COUNTING_LENGTH && COUNTING.some((run) => run.includes(id))
  return !NO_VALUE.has(id) && !SHARED_IDS.has(id) && !SHARED_PATTERN.test(id) && !isCounting
}

/**
 * What proves that the phone of the `first` call calls again; undefined where nothing does. An id that identifies
 * decides alone. Without one, model, manufacturer and Android version must all be there and agree.
 */
export function samePhoneProof(first: PhoneFacts, again: PhoneFacts): SamePhoneProof | undefined {
  if (first.hardwareId !== again.hardwareId) return undefined
  if (isIdentifying(first.hardwareId)) return 'hardware_id'
  const isDescribed = (['model', 'manufacturer', 'androidVersion'] as const).every(
    (name) => first[name] === again[name] && !NO_VALUE.has(lettersAndDigits(first[name])),
  )
  return isDescribed ? 'description' : undefined
}

function lettersAndDigits(text: string | null): string {
  return (text ?? '').toLowerCase().replace(/[^\p{L}\p{N}]/gu, '')
}
