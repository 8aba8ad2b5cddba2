/** X-Signature as admins and phones make it (http-api.md, Signatures). */
import { createHash, createHmac, randomUUID } from 'node:crypto'
import type { HttpRequest, Send } from '../../testkit/http/client.ts'

/** The value of the header, keyed with `key`, at `nowMs`. */
export function signatureOf(request: HttpRequest, key: string, nowMs: number): string {
  const timeS = Math.floor(nowMs / 1_000)
  const { method, path, headers = {}, body = '' } = request
  const bodySha256 = headers['x-apk-sha256'] ?? createHash('sha256').update(body).digest('hex')
  const text = [timeS, method, path, headers['x-request-id'] ?? '', bodySha256].join('\n')
  return `t=${timeS},v1=${createHmac('sha256', key).update(text).digest('hex')}`
}

/** Signs whatever goes through it, under an id of its own: the service takes each of an admin's signatures once. */
export function signingSend(send: Send, key: string, nowMs: () => number): Send {
  return (plain) => {
    const headers = { 'x-request-id': randomUUID(), ...plain.headers }
    const signature = signatureOf({ ...plain, headers }, key, nowMs())
    return send({ ...plain, headers: { ...headers, 'x-signature': signature } })
  }
}
