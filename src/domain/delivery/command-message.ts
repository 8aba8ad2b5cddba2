/**
 * The command as a device receives it, by push or in the response to a heartbeat, and its signatures. Devices in the field
 * verify these bytes: keys may be added, but the format must never change. The test has golden vectors.
 */
import { createHmac } from 'node:crypto'

/** One message about a command. Each has its own `ts`, `attempt` and signatures. */
export interface CommandMessage {
  readonly requestId: string
  readonly deviceId: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  readonly expiresAt: Date
  /** Counts the messages about this command, from 1. */
  readonly attempt: number
  /** When this message was made. */
  readonly ts: Date
  /** From commandKey, for the device's current enrollment. */
  readonly hmacKey: string
}

/**
 * Names that params may not have: our own keys, and those that FCM refuses or that Android's firebase-messaging strips
 * from RemoteMessage.getData() (Constants.MessagePayloadKeys), which would break the signature.
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

/** The SDK strips `google.` and `gcm.`; FCM's documentation reserves every name that begins with `google` or `gcm`. */
export const RESERVED_PARAM_PREFIXES: readonly string[] = ['google', 'gcm']

export function isReservedParamName(name: string): boolean {
  return (
    RESERVED_PARAM_NAMES.includes(name) ||
    RESERVED_PARAM_PREFIXES.some((prefix) => name.startsWith(prefix))
  )
}

/** The key that signs a device's commands. Its UTF-8 bytes are the HMAC key. Each enrollment has its own. */
export function commandKey(secret: string, deviceId: string, enrollmentNo: number): string {
  return createHmac('sha256', secret)
    .update(`device-command-key:v1:${deviceId}:${enrollmentNo}`)
    .digest('base64url')
}

/** FCM's `data` object. Leaves out params with reserved names, which could pass for our fields. */
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

interface SignedFields {
  readonly request_id: string
  readonly device_id: string
  readonly action: string
  readonly ts: string
  readonly expires_at: string
  readonly attempt: string
}

type Param = readonly [name: string, value: string]

/** Sorted by the bytes of their names. */
function paramsOf(entries: Readonly<Record<string, string>>): readonly Param[] {
  return Object.entries(entries)
    .filter(([name]) => !isReservedParamName(name))
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

/** Older agents check only this one. It does not cover params, expiry and attempt, so there is a second. */
function firstSignatureText(fields: SignedFields): string {
  return [fields.request_id, fields.device_id, fields.action, fields.ts].join('|')
}

/** Covers everything. Parts are netstrings (`length:bytes,`), so different messages have different texts. */
function secondSignatureText(fields: SignedFields, params: readonly Param[]): string {
  const { request_id, device_id, action, ts, expires_at, attempt } = fields
  return ['v2', request_id, device_id, action, ts, expires_at, attempt, ...params.flat()]
    .map((part) => `${Buffer.byteLength(part)}:${part},`)
    .join('')
}

function sign(hmacKey: string, text: string): string {
  return createHmac('sha256', hmacKey).update(text).digest('hex')
}
