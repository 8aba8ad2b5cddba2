/** HTTPS rule: what may come in plaintext, whose word counts, and whose address a line names. */
import t from 'tap'
import { addressSet, clientAddress, isTransportAllowed } from '../../src/http/client-address.ts'
import { type Running, startService } from '../helpers/service.ts'

const CLIENT = '203.0.113.9'

async function lineOf(service: Running, headers: Record<string, string>, path = '/admin/devices') {
  const response = await service.call('GET', path, { headers })
  const line = await service.lines.terminalOf(response.requestId)
  return { status: response.status, code: response.body?.code, ip: line['ip'], line }
}

const trusting = await startService(t, {
  env: { TRUSTED_PROXIES: '127.0.0.1/32,10.0.0.0/8', LOG_LEVEL: 'DEBUG' },
})

t.test('behind a trusted proxy the proxy says who asks and how', async (t) => {
  const service = trusting
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
    [`${CLIENT}:51234`, CLIENT],
    ['[2001:db8::7]:51234', '2001:db8::7'],
    ['[2001:DB8::7]', '2001:db8::7'],
    [`6.6.6.6:80, ${CLIENT}:51234, 10.1.2.3:443`, CLIENT],
    [`6.6.6.6, [::ffff:${CLIENT}]:51234 , [::ffff:10.1.2.3]:443`, CLIENT],
    ['fe80::7%eth0', 'fe80::7'],
    [`${CLIENT}:port`, '127.0.0.1'],
    ['[2001:db8::7', '127.0.0.1'],
    [',', '127.0.0.1'],
    [`6.6.6.6, ${CLIENT}, `, CLIENT],
    [`,${CLIENT},,10.1.2.3:80,`, CLIENT],
    [`${CLIENT}:`, CLIENT],
    [`"${CLIENT}:51234"`, CLIENT],
    ['"[2001:db8::7]:51234"', '2001:db8::7'],
    ['2001:DB8:0:0:0:0:0:7', '2001:db8::7'],
    ['::ffff:c000:0207', '192.0.2.7'],
    ['[0:0:0:0:0:ffff:192.0.2.7]:443', '192.0.2.7'],
    [`${CLIENT}, ::ffff:0a01:0203`, CLIENT],
    ['2001:db8::7:512345', '127.0.0.1'],
    [`${CLIENT}/32`, '127.0.0.1'],
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

t.test('a client cannot have more than 32 hops read', async (t) => {
  const asked: string[] = []
  const isTrustedProxy = (address: string) => asked.push(address) > 0
  const hops = ['10.0.0.1,'.repeat(900), '10.0.0.2,'.repeat(31), '10.0.0.3']
  const headers = { 'x-forwarded-for': hops.join('') }
  t.equal(clientAddress('127.0.0.1', headers, isTrustedProxy), '10.0.0.2')
  t.same(asked, ['127.0.0.1', '10.0.0.3', ...Array<string>(31).fill('10.0.0.2')])
})

t.test(
  'a proxy on this host that TRUSTED_PROXIES does not name: not its client, but http is http',
  async (t) => {
    const service = await startService(t, { env: { LOG_LEVEL: 'DEBUG' } })
    t.match(await lineOf(service, {}), { status: 200, ip: '127.0.0.1' })
    t.match(await lineOf(service, { via: '1.1 proxy' }), { status: 200 })
    t.same(service.lines.of('proxy.untrusted'), [])

    const said = await lineOf(service, { 'x-forwarded-for': CLIENT, 'x-forwarded-proto': 'https' })
    t.match(said, { status: 200, ip: '127.0.0.1' })
    for (const headers of [
      { 'x-forwarded-for': CLIENT },
      { 'x-forwarded-for': CLIENT, 'x-forwarded-proto': 'http' },
      { 'x-forwarded-proto': 'https, http' },
      { 'x-forwarded-host': 'fleet.example.org' },
    ]) {
      const seen = await lineOf(service, headers)
      const what = JSON.stringify(headers)
      t.match(seen, { status: 403, code: 'https_required', ip: '127.0.0.1' }, what)
      t.match(seen.line, { event: 'sec.https.enforced', reason: 'plaintext' }, what)
    }
    const http = { 'x-forwarded-for': CLIENT, 'x-forwarded-proto': 'http' }
    for (const path of ['/healthz', '/readyz'])
      t.match(await lineOf(service, http, path), { status: 200 })
    for (const path of ['/v1/heartbeat', '/v1/register']) {
      const response = await service.call('POST', path, { body: {}, headers: http })
      t.match(response, { status: 403, body: { code: 'https_required' } }, path)
    }
    const direct = await lineOf(service, {})
    t.match(direct, { status: 200 }, 'nothing forwarded')
    const once = { request_id: said.line['request_id'], ip: '127.0.0.1', level: 'WARN' }
    t.match(service.lines.of('proxy.untrusted'), [once])
    t.equal(service.lines.of('proxy.untrusted').length, 1, 'once')
  },
)

t.test('a proxy is noticed by Forwarded and X-Real-IP too, and a trusted one never', async (t) => {
  const real = await startService(t, { env: { REQUIRE_HTTPS: 'false' } })
  t.match(await lineOf(real, { 'x-real-ip': CLIENT }), { status: 200, ip: '127.0.0.1' })
  t.equal(real.lines.of('proxy.untrusted').length, 1)
  const plain = await startService(t, { env: { REQUIRE_HTTPS: 'false' } })
  t.match(await lineOf(plain, { forwarded: `for=${CLIENT};proto=http` }), { status: 200 })
  t.match(await lineOf(plain, { 'x-forwarded-proto': 'http' }), { status: 200 })
  t.equal(plain.lines.of('proxy.untrusted').length, 1)

  const headers = { 'x-forwarded-proto': 'https', forwarded: `for=${CLIENT}` }
  t.match(await lineOf(trusting, headers), { status: 200, ip: '127.0.0.1' })
  t.same(trusting.lines.of('proxy.untrusted'), [])
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
    ['127.0.0.9', { 'x-forwarded-for': CLIENT }, false],
    ['::1', { 'x-forwarded-proto': 'http' }, false],
    ['::1', { 'x-forwarded-proto': 'HTTPS' }, true],
    ['192.168.7.9', { 'x-forwarded-proto': 'http' }, true],
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
