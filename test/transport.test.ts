/** HTTPS rule: what may come in plaintext, whose word counts, and whose address a line names. */
import t from 'tap'
import { addressSet, isTransportAllowed } from '../src/http/client-address.ts'
import { type Running, startService } from './helpers/service.ts'

const CLIENT = '203.0.113.9'

async function lineOf(service: Running, headers: Record<string, string>, path = '/admin/devices') {
  const answer = await service.call('GET', path, { headers })
  const line = await service.lines.terminalOf(answer.requestId)
  return { status: answer.status, code: answer.body?.code, ip: line['ip'], line }
}

t.test('behind a trusted proxy the proxy says who asks and how', async (t) => {
  const service = await startService(t, {
    env: { TRUSTED_PROXIES: '127.0.0.1/32,10.0.0.0/8', LOG_LEVEL: 'DEBUG' },
  })
  const https = { 'x-forwarded-proto': 'https' }
  for (const [from, ip] of [
    [CLIENT, CLIENT],
    [`6.6.6.6, ${CLIENT}`, CLIENT],
    [`6.6.6.6, ${CLIENT}, 10.1.2.3`, CLIENT],
    ['2001:db8::7', '2001:db8::7'],
    [`::ffff:${CLIENT}`, CLIENT],
    [`::FFFF:${CLIENT}`, CLIENT],
    ['2001:DB8::7', '2001:db8::7'],
    [`${CLIENT}, ::FFFF:10.1.2.3`, CLIENT],
    ['10.1.2.3', '10.1.2.3'],
    [`${CLIENT}, unknown`, '127.0.0.1'],
  ] as const) {
    const seen = await lineOf(service, { ...https, 'x-forwarded-for': from })
    t.same([seen.status, seen.ip], [200, ip], from)
  }
  for (const headers of [
    { 'x-forwarded-for': CLIENT },
    { 'x-forwarded-for': CLIENT, 'x-forwarded-proto': 'http' },
    { 'x-forwarded-for': CLIENT, 'x-forwarded-proto': 'https, http' },
    { 'x-forwarded-proto': '' },
    { 'x-forwarded-host': 'fleet.example.org' },
    { 'x-forwarded-port': '80' },
  ]) {
    const seen = await lineOf(service, headers)
    t.match(seen, { status: 403, code: 'https_required' }, JSON.stringify(headers))
    const refused = {
      event: 'sec.https.enforced',
      level: 'WARN',
      reason: 'plaintext',
      token_id: null,
    }
    t.match(seen.line, refused)
  }
  const direct = await lineOf(service, {})
  t.match(direct, { status: 200, ip: '127.0.0.1' }, 'loopback itself, nothing forwarded')
  const http = { 'x-forwarded-for': CLIENT, 'x-forwarded-proto': 'http' }
  for (const path of ['/healthz', '/readyz'])
    t.match(await lineOf(service, http, path), { status: 200 })
  const metrics = await lineOf(service, http, '/metrics')
  t.match(metrics, { status: 403 }, 'only health probes are excepted')
  const register = await service.call('POST', '/v1/register', { body: {}, headers: http })
  t.match(register, { status: 403, body: { code: 'https_required' } })
})

t.test('nobody else says anything about the client', async (t) => {
  const service = await startService(t)
  const forwarded = { 'x-forwarded-for': CLIENT, 'x-forwarded-proto': 'http' }
  t.match(await lineOf(service, forwarded), { status: 200, ip: '127.0.0.1' })
})

t.test('a peer that is neither loopback nor a proxy needs to be allowed by name', async (t) => {
  const rule = {
    isTrustedProxy: addressSet(['10.0.0.0/8']),
    isPlaintextOk: addressSet(['192.168.7.0/24', '2001:db8::/32']),
  }
  const says = { 'x-forwarded-proto': 'https' }
  for (const [peer, headers, isAllowed] of [
    [CLIENT, {}, false],
    [CLIENT, says, false],
    ['192.168.7.9', {}, true],
    ['192.168.8.9', {}, false],
    ['2001:db8::9', {}, true],
    ['::1', {}, true],
    ['127.0.0.9', {}, true],
    ['10.1.2.3', {}, false],
    ['10.1.2.3', says, true],
    [null, says, false],
  ] as const) {
    t.equal(
      isTransportAllowed(peer, headers, rule),
      isAllowed,
      `${peer} ${JSON.stringify(headers)}`,
    )
  }
})
