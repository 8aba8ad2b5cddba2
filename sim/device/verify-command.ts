/** Checks the signatures of a command, written after docs/device-protocol.md without code of the service. */
import { createHmac } from 'node:crypto'

/** What FCM and the service put beside the params. */
// biome-ignore format: one list
const NO_PARAMS = new Set([
  'request_id', 'correlation_id', 'device_id', 'action', 'ts', 'hmac', 'hmac2', 'expires_at', 'attempt', 'from',
  'message_type', 'collapse_key',
])

/** Which of the two signatures are valid. Never throws, whatever `data` holds. */
export function verifyCommandData(
  data: Readonly<Record<string, string>>,
  hmacKey: string,
): { hmac: boolean; hmac2: boolean } {
  const { request_id = '', device_id = '', action = '', ts = '', expires_at = '' } = data
  const { attempt = '', hmac, hmac2 } = data
  const params = Object.entries(data)
    .filter(([name]) => !NO_PARAMS.has(name) && !/^(google|gcm)/.test(name))
    .toSorted(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  const netstrings = [
    'v2',
    request_id,
    device_id,
    action,
    ts,
    expires_at,
    attempt,
    ...params.flat(),
  ]
    .map((part) => `${Buffer.byteLength(part)}:${part},`)
    .join('')
  const sign = (text: string) => createHmac('sha256', hmacKey).update(text).digest('hex')
  return {
    hmac: hmac === sign([request_id, device_id, action, ts].join('|')),
    hmac2: hmac2 === sign(netstrings),
  }
}
