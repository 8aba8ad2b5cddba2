/** Signed admin changes and signed results (SECURITY.md). */
import { createHash, createHmac } from 'node:crypto'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { checkSignature, SIGNATURE_KEPT_S } from '../../src/security/signature.ts'
import { head, sendRaw } from '../helpers/raw.ts'
import { ADMIN, startService } from '../helpers/service.ts'

const SECRET = 'test-admin-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n'

interface Signed {
  readonly method: string
  readonly path: string
  readonly body: string
  readonly requestId?: string
  readonly key?: string
  readonly atS?: number
  readonly sha256?: string
}

/** Written from the documentation, not from the code. */
function sign(request: Signed): Readonly<Record<string, string>> {
  const t = request.atS ?? Math.floor(Date.now() / 1_000)
  const bodyHash = request.sha256 ?? createHash('sha256').update(request.body).digest('hex')
  const text = `${t}\n${request.method}\n${request.path}\n${request.requestId ?? ''}\n${bodyHash}`
  const v1 = createHmac('sha256', request.key ?? SECRET)
    .update(text)
    .digest('hex')
  return {
    'x-signature': `t=${t},v1=${v1}`,
    'content-type': 'application/json',
    ...(request.requestId && { 'x-request-id': request.requestId }),
  }
}

const service = await startService(t, { env: { ADMIN_HMAC_SECRET: SECRET } })

t.test('with ADMIN_HMAC_SECRET every admin change needs a fresh signature', async (t) => {
  const path = '/v1/enroll-tokens'
  const body = '{"aliases":["S1"]}'
  const good = sign({ method: 'POST', path, body, requestId: 'sig-1' })

  const accepted = await service.call('POST', path, { raw: body, headers: good })
  t.equal(accepted.status, 201, accepted.text)

  const now = Math.floor(Date.now() / 1_000)
  const faults: readonly (readonly [string, string, Readonly<Record<string, string>>])[] = [
    ['replayed', body, good],
    ['missing', body, { 'content-type': 'application/json' }],
    ['malformed', body, { ...good, 'x-signature': 't=now,v1=abc' }],
    ['mismatch', '{"aliases":["S2"]}', sign({ method: 'POST', path, body })],
    ['mismatch', body, sign({ method: 'POST', path: `${path}?x=1`, body })],
    ['mismatch', body, sign({ method: 'PUT', path, body })],
    ['mismatch', body, { ...sign({ method: 'POST', path, body }), 'x-request-id': 'not-signed' }],
    ['mismatch', body, sign({ method: 'POST', path, body, key: `${SECRET}x` })],
    ['stale', body, sign({ method: 'POST', path, body, atS: now - 200 })],
    ['stale', body, sign({ method: 'POST', path, body, atS: now + 200 })],
  ]
  for (const [index, [reason, raw, headers]] of faults.entries()) {
    const requestId = headers['x-request-id'] ?? `fault-${index}`
    const response = await service.call('POST', path, {
      raw,
      headers: { 'x-request-id': requestId, ...headers },
    })
    t.match(response, { status: 401, body: { code: 'signature_invalid' } }, reason)
    await service.lines.waitFor(
      (line) => line.event === 'sec.hmac.invalid' && line['reason'] === reason,
      reason,
    )
  }
  t.equal((await service.call('GET', path)).status, 200, 'reading needs none')

  const device = '/admin/devices/018f0000-0000-7000-8000-000000000000'
  const labels = '{"labels":{"site":"zrh"}}'
  const bare = { headers: { 'content-type': 'application/json' }, raw: labels }
  t.equal((await service.call('PATCH', device, bare)).status, 401, 'PATCH is a change')
  const patch = sign({ method: 'PATCH', path: device, body: labels })
  t.equal((await service.call('PATCH', device, { raw: labels, headers: patch })).status, 404)

  const unknown = '{"aliases":["S3"],"dry_run":true}'
  for (const [asked, raw] of [
    [`${path}?dry_run=1`, body],
    [path, unknown],
  ] as const) {
    const headers = sign({ method: 'POST', path: asked, body: raw })
    const unsigned = { 'content-type': 'application/json' }
    t.equal((await service.call('POST', asked, { raw, headers: unsigned })).status, 401, asked)
    const refused = await service.call('POST', asked, { raw, headers })
    t.match(
      refused,
      { status: 422, body: { errors: [{ field: 'dry_run' }] } },
      'after the signature',
    )
    t.equal((await service.call('POST', asked, { raw, headers })).status, 401, 'it is used up')
  }

  const apk = makeApk()
  const sha256 = createHash('sha256').update(apk).digest('hex')
  const put = '/admin/apk/builds/b1?version_code=1'
  const headers = {
    ...sign({ method: 'PUT', path: put, body: '', sha256 }),
    'x-apk-sha256': sha256,
  }
  t.equal((await service.call('PUT', put, { raw: apk, headers })).status, 201)
  const other = put.replace('b1', 'b2')
  const upper = sha256.toUpperCase()
  const promise = { 'x-apk-sha256': sha256 }
  const uploads = [
    ['missing', promise],
    ['missing', sign({ method: 'PUT', path: other, body: '', sha256: '' })],
    ['mismatch', { ...sign({ method: 'PUT', path: other, body: '' }), ...promise }],
    ['mismatch', { ...sign({ method: 'PUT', path: other, body: '', sha256: upper }), ...promise }],
  ] as const
  for (const [reason, headers] of uploads) {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
    const request = head(
      `PUT ${other} HTTP/1.1`,
      `Authorization: Bearer ${ADMIN}`,
      'Expect: 100-continue',
      `Content-Length: ${apk.length}`,
      ...lines,
    )
    const response = await sendRaw(t, service.origin, request)
    t.match(response, { status: 401, body: { code: 'signature_invalid' } }, 'before any byte of it')
    t.match(await service.lines.terminalOf(response.requestId), { reason })
  }
  const asSent = {
    ...sign({ method: 'PUT', path: other, body: '', sha256: upper }),
    'x-apk-sha256': upper,
  }
  t.equal((await service.call('PUT', other, { raw: apk, headers: asSent })).status, 201)

  const remove = '/admin/apk/builds/b1'
  t.match(await service.call('DELETE', remove), {
    status: 401,
    body: { code: 'signature_invalid' },
  })
  const signed = sign({ method: 'DELETE', path: remove, body: '' })
  t.equal((await service.call('DELETE', remove, { headers: signed })).status, 204)
})

t.test('a signature holds for two minutes before and after its time', async (t) => {
  const request = { method: 'POST', path: '/x', body: '{}', atS: 10_000 }
  const signed = {
    header: sign(request)['x-signature'],
    method: 'POST',
    url: '/x',
    requestIdHeader: '',
    bodySha256: createHash('sha256').update('{}').digest('hex'),
  }
  const at = (nowS: number) => checkSignature(signed, SECRET, nowS)
  const stale = { kind: 'invalid', reason: 'stale' }
  for (const offS of [-120, 0, 120]) t.equal(at(10_000 + offS).kind, 'valid', `${offS} s`)
  for (const offS of [-121, 121]) t.same(at(10_000 + offS), stale, `${offS} s`)
  t.equal(SIGNATURE_KEPT_S, 360, 'a used one is known for longer than the four minutes between')
})

t.test('a signature is accepted once across replicas', async (t) => {
  const second = await startService(t, {
    env: { ADMIN_HMAC_SECRET: SECRET },
    databaseUrl: service.databaseUrl,
  })
  const body = '{"aliases":[null]}'
  const headers = sign({ method: 'POST', path: '/v1/enroll-tokens', body })
  const responses = await Promise.all(
    [service, second, service, second].map((replica) =>
      replica.call('POST', '/v1/enroll-tokens', { raw: body, headers }),
    ),
  )
  t.same(responses.map((response) => response.status).sort(), [201, 401, 401, 401])
})

t.test('a result is checked when it is signed, and must be where that is required', async (t) => {
  const service = await startService(t)
  const strict = await startService(t, {
    env: { REQUIRE_SIGNED_RESULTS: 'true' },
    databaseUrl: service.databaseUrl,
  })
  const device = await service.enroll('R1')
  const path = '/v1/action-result'
  const command = { alias: 'R1', action: 'ping', request_id: 'signed-1' }
  t.equal((await service.call('POST', '/admin/command', { body: command })).status, 202)
  const body = '{"request_id":"signed-1","outcome":"success"}'
  const report = (to: typeof service, headers: Readonly<Record<string, string>>) =>
    to.call('POST', path, { token: device.token, raw: body, headers })

  const wrong = sign({ method: 'POST', path, body, key: 'another key' })
  t.match(await report(service, wrong), { status: 401, body: { code: 'signature_invalid' } })
  t.match(await report(strict, { 'content-type': 'application/json' }), { status: 401 })
  const right = sign({ method: 'POST', path, body, key: device.hmacKey })
  t.match(await report(strict, right), { status: 200, body: { duplicate: false } })
  t.match(await report(strict, right), { status: 200, body: { duplicate: true } })
})
