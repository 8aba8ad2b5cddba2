/** Checks a send as strictly as FCM HTTP v1 does (googleapis discovery/fcm-v1.json); data messages only. */
import type { PushKind } from '../../src/domain/delivery/push-id.ts'
import { type FakeResponse, googleError } from './responses.ts'

/** A send that FCM would accept. */
export interface CheckedMessage {
  readonly isValidateOnly: boolean
  /** The address, a registration token or a FID. */
  readonly pushToken: string
  readonly pushKind: PushKind
  readonly data: Readonly<Record<string, string>>
  /** As sent, such as `{"priority":"HIGH","ttl":"300s"}`. */
  readonly android: Readonly<Record<string, unknown>>
}

const BODY_FIELDS = ['message', 'validate_only', 'validateOnly']
const MESSAGE_FIELDS = ['token', 'fid', 'data', 'android', 'fcm_options', 'fcmOptions']
const ANDROID_FIELDS = [
  'priority',
  'ttl',
  'collapse_key',
  'restricted_package_name',
  'direct_boot_ok',
  'fcm_options',
]
const MAX_DATA_BYTES = 4096
const MAX_TTL_S = 28 * 24 * 3600
const RESERVED_KEY = /^(from|message_type|google\..*|gcm\.notification\..*)$/
/**
 * Keys that Android's firebase-messaging hides from the app (Constants.MessagePayloadKeys,
 * extractDeveloperDefinedPayload).
 */
const STRIPPED_KEY = /^(from$|message_type$|collapse_key$|google\.|gcm\.)/

/** The message, or FCM's error. */
export function checkMessage(text: string): CheckedMessage | { readonly complaint: FakeResponse } {
  try {
    return readMessage(text)
  } catch (error) {
    if (error instanceof Complaint) return { complaint: error.answer }
    throw error
  }
}

/** As RemoteMessage.getData() returns it to the app. */
export function dataOnPhone(data: CheckedMessage['data']): CheckedMessage['data'] {
  return Object.fromEntries(Object.entries(data).filter(([name]) => !STRIPPED_KEY.test(name)))
}

class Complaint extends Error {
  override readonly name: string = 'Complaint'
  readonly answer: FakeResponse

  constructor(badField: string, message: string) {
    super(message)
    this.answer = googleError(400, 'INVALID_ARGUMENT', message, { badField })
  }
}

function readMessage(text: string): CheckedMessage {
  const body = asObject(parse(text), 'body')
  allowOnly(body, BODY_FIELDS, '')
  const { validate_only, validateOnly, message: rawMessage } = body
  const message = asObject(rawMessage, 'message')
  allowOnly(message, MESSAGE_FIELDS, 'message')
  const { data = {}, android = {} } = message
  const { pushToken, pushKind } = readAddress(message)

  return {
    isValidateOnly: (validate_only ?? validateOnly) === true,
    pushToken,
    pushKind,
    data: readData(asObject(data, 'message.data')),
    android: checkAndroid(asObject(android, 'message.android')),
  }
}

/** Exactly one of the fields of the union `target` (googleapis discovery/fcm-v1.json). */
function readAddress(message: Record<string, unknown>) {
  const given = (['token', 'fid'] as const).filter(
    (kind) => ![undefined, ''].includes(message[kind] as ''),
  )
  const [pushKind, other] = given
  if (pushKind === undefined) throw new Complaint('message', 'Recipient of the message is not set.')
  if (other !== undefined) {
    throw new Complaint(
      'message',
      `Invalid value at 'message' (oneof), oneof field 'target' is already set.`,
    )
  }
  const pushToken = message[pushKind]
  if (typeof pushToken !== 'string') throw notAString(`message.${pushKind}`, pushToken)
  return { pushToken, pushKind }
}

function readData(data: Record<string, unknown>): Record<string, string> {
  const read: Record<string, string> = {}
  let sizeBytes = 0
  for (const [index, [name, value]] of Object.entries(data).entries()) {
    if (typeof value !== 'string') throw notAString(`message.data[${index}].value`, value)
    if (RESERVED_KEY.test(name)) {
      throw new Complaint('message.data', `Invalid data payload key: ${name}`)
    }
    sizeBytes += Buffer.byteLength(name) + Buffer.byteLength(value)
    read[name] = value
  }
  if (sizeBytes > MAX_DATA_BYTES) throw new Complaint('message', 'Android message is too big')
  return read
}

function checkAndroid(android: Record<string, unknown>): Record<string, unknown> {
  allowOnly(android, ANDROID_FIELDS, 'message.android')
  const { priority = 'NORMAL', ttl = '0s' } = android
  if (priority !== 'HIGH' && priority !== 'NORMAL') {
    throw new Complaint('message.android.priority', `Invalid value at 'message.android.priority'`)
  }
  const seconds = typeof ttl === 'string' ? /^(\d+)(?:\.\d{1,9})?s$/.exec(ttl)?.[1] : undefined
  if (seconds === undefined || Number(seconds) > MAX_TTL_S) {
    throw new Complaint('message.android.ttl', `Illegal duration format at 'message.android.ttl'`)
  }
  return android
}

function allowOnly(value: Record<string, unknown>, names: readonly string[], path: string): void {
  for (const name of Object.keys(value)) {
    if (names.includes(name)) continue
    throw new Complaint(
      path,
      `Invalid JSON payload received. Unknown name "${name}" at '${path}': Cannot find field.`,
    )
  }
}

function notAString(path: string, value: unknown): Complaint {
  return new Complaint(path, `Invalid value at '${path}' (TYPE_STRING), ${JSON.stringify(value)}`)
}

function asObject(value: unknown, path: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown> // a JSON object, checked in the line above
  }
  throw new Complaint(path, `Invalid value at '${path}'`)
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Complaint('', 'Invalid JSON payload received. Unexpected token.')
  }
}
