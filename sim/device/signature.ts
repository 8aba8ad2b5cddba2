/** X-Signature of admins and phones (SECURITY.md). */
import { createHash, createHmac, randomUUID } from 'node:crypto'
import type { HttpRequest, Send } from '../../testkit/http/client.ts'

/** The header's value, signed with `key` at `nowMs`. */
export function signatureOf(request: HttpRequest, key: string, nowMs: number): string {
  const timeS = Math.floor(nowMs / 1_000)
  const { method, path, headers = {}, body = '' } = request
  const bodySha256 = headers['x-apk-sha256'] ?? createHash('sha256').update(body).digest('hex')
  const text = [timeS, method, path, headers['x-request-id'] ?? '', bodySha256].join('\n')
  return `t=${timeS},v1=${createHmac('sha256', key).update(text).digest('hex')}`
}

/** Signs each request under a new id: the service accepts each admin signature once. */
export function signingSend(send: Send, key: string, nowMs: () => number): Send {
  return (plain) => {
    const headers = { 'x-request-id': randomUUID(), ...plain.headers }
    const signature = signatureOf({ ...plain, headers }, key, nowMs())
    return send({ ...plain, headers: { ...headers, 'x-signature': signature } })
  }
}
