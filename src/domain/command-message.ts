/**
 * The command as a device gets it, the same object by push and in a heartbeat's answer, and how it is signed.
 * Devices in the field check these bytes: the format may gain keys, and never changes (golden vectors in the test).
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

/** One message about a command. Every message is signed anew, with its own `ts` and a higher `attempt`. */
export interface CommandMessage {
  readonly requestId: string
  readonly deviceId: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  readonly expiresAt: Date
  /** Which message about this command it is, from 1. */
  readonly attempt: number
  /** When this message is made. */
  readonly ts: Date
  /** From `commandKey`, of the device's present enrollment. */
  readonly hmacKey: string
}

/**
 * Names that no param may have. Ours, and `from`, `message_type`, `collapse_key`: FCM refuses them, or Android's
 * firebase-messaging strips them from RemoteMessage.getData() (Constants.MessagePayloadKeys), so that no signature holds.
 */
export const RESERVED_PARAM_NAMES: readonly string[] = [
  'request_id',
  'correlation_id',
  'device_id',
  'action',
  'ts',
  'hmac',
  'hmac2',
  'expires_at',
  'attempt',
  'from',
  'message_type',
  'collapse_key',
]

/** The SDK strips `google.` and `gcm.`; FCM's documentation reserves both words whatever follows. */
export const RESERVED_PARAM_PREFIXES: readonly string[] = ['google', 'gcm']

/** True for a name that no param may have; the route answers 422 for it. */
export function isReservedParamName(name: string): boolean {
  return (
    RESERVED_PARAM_NAMES.includes(name) ||
    RESERVED_PARAM_PREFIXES.some((prefix) => name.startsWith(prefix))
  )
}

/** The key that signs a device's commands; its UTF-8 bytes key the HMAC. A new enrollment has a new one. */
export function commandKey(secret: string, deviceId: string, enrollmentNo: number): string {
  return createHmac('sha256', secret)
    .update(`device-command-key:v1:${deviceId}:${enrollmentNo}`)
    .digest('base64url')
}

/** FCM's `data` object. A param with a reserved name is left out: it could pass for one of our fields. */
export function commandData(message: CommandMessage): Record<string, string> {
  const { hmacKey } = message
  const fields: SignedFields = {
    request_id: message.requestId,
    device_id: message.deviceId,
    action: message.action,
    ts: message.ts.toISOString(),
    expires_at: message.expiresAt.toISOString(),
    attempt: String(message.attempt),
  }
  const params = paramsOf(message.params)

  return {
    action: fields.action,
    request_id: fields.request_id,
    device_id: fields.device_id,
    ts: fields.ts,
    hmac: sign(hmacKey, firstSignatureText(fields)),
    hmac2: sign(hmacKey, secondSignatureText(fields, params)),
    expires_at: fields.expires_at,
    attempt: fields.attempt,
    ...Object.fromEntries(params),
  }
}

/** What a device does with a message: which of the two signatures hold. Never throws, whatever `data` holds. */
export function verifyCommandData(
  data: Readonly<Record<string, string>>,
  hmacKey: string,
): { hmac: boolean; hmac2: boolean } {
  const { request_id = '', device_id = '', action = '', ts = '', expires_at = '' } = data
  const { attempt = '', hmac = '', hmac2 = '' } = data
  const fields: SignedFields = { request_id, device_id, action, ts, expires_at, attempt }
  return {
    hmac: isSame(hmac, sign(hmacKey, firstSignatureText(fields))),
    hmac2: isSame(hmac2, sign(hmacKey, secondSignatureText(fields, paramsOf(data)))),
  }
}

interface SignedFields {
  readonly request_id: string
  readonly device_id: string
  readonly action: string
  readonly ts: string
  readonly expires_at: string
  readonly attempt: string
}

type Param = readonly [name: string, value: string]

/** In byte order of the names. */
function paramsOf(entries: Readonly<Record<string, string>>): readonly Param[] {
  return Object.entries(entries)
    .filter(([name]) => !isReservedParamName(name))
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

/** What fielded agents check. It leaves params, expiry and attempt unsigned, hence the second one. */
function firstSignatureText(fields: SignedFields): string {
  return [fields.request_id, fields.device_id, fields.action, fields.ts].join('|')
}

/** Everything, and no two messages have the same text: each part is its length in bytes, `:`, itself and `,`. */
function secondSignatureText(fields: SignedFields, params: readonly Param[]): string {
  const { request_id, device_id, action, ts, expires_at, attempt } = fields
  return ['v2', request_id, device_id, action, ts, expires_at, attempt, ...params.flat()]
    .map((part) => `${Buffer.byteLength(part)}:${part},`)
    .join('')
}

/** Lower-case hex. */
function sign(hmacKey: string, text: string): string {
  return createHmac('sha256', hmacKey).update(text).digest('hex')
}

function isSame(given: string, expected: string): boolean {
  const givenBytes = Buffer.from(given)
  const expectedBytes = Buffer.from(expected)
  return givenBytes.length === expectedBytes.length && timingSafeEqual(givenBytes, expectedBytes)
}
