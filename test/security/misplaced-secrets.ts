/**
 * Requests that carry a real credential where it does not belong. Left out: X-Request-ID and User-Agent, which a client
 * chooses itself and which are logged as they come.
 */
import { createHmac } from 'node:crypto'
import { type HttpRequest, jsonHeaders } from '../../testkit/http/client.ts'

export interface Credentials {
  readonly adminToken: string
  /** Of an admin who may only read. */
  readonly readerToken: string
  readonly deviceToken: string
  readonly hmacKey: string
  readonly enrollmentToken: string
  readonly revokedToken: string
}

export function misplacedSecrets(of: Credentials): readonly HttpRequest[] {
  const secrets = [of.deviceToken, of.enrollmentToken, of.hmacKey, of.adminToken]
  return [
    ...secrets.flatMap(inPathAndQuery(of.adminToken)),
    ...secrets.flatMap(inHeaders),
    ...secrets.flatMap(inBodies(of)),
    post('/v1/register', of.revokedToken, '{}'),
    post('/admin/command', of.readerToken, '{}'),
    get(`/v1/apk/download-latest?token=${of.enrollmentToken}`, of.revokedToken),
    ...['stale', 'live'].map((age) => signed(of, age === 'live' ? Date.now() : 0)),
  ]
}

const inPathAndQuery = (adminToken: string) => (secret: string) => [
  get(`/v1/${secret}`, adminToken),
  get(`/admin/devices/${secret}`, adminToken),
  get(`/admin/commands/${secret}`, adminToken),
  get(`/admin/devices?alias=${secret}`, adminToken),
  get(`/admin/devices?cursor=${secret}&limit=${secret}`, adminToken),
  get(`/v1/apk/download-latest?token=${secret}`, ''),
  {
    method: 'DELETE',
    path: `/v1/enroll-tokens/${secret}`,
    headers: jsonHeaders(adminToken),
  } as const,
]

const inHeaders = (secret: string) => [
  get('/admin/devices', secret),
  get('/admin/devices', `${secret}x`),
  get('/metrics', `${secret} ${secret}`),
  post('/v1/register', secret, '{"alias":"D 1"}'),
  post('/v1/heartbeat', secret, '[]'),
  withHeaders({ authorization: secret }),
  withHeaders({ authorization: `Basic ${secret}` }),
  withHeaders({ 'x-device-token': secret }),
  withHeaders({ 'x-device-token': secret, authorization: 'Bearer other' }),
  withHeaders({ cookie: `token=${secret}`, 'x-signature': secret }),
]

const inBodies = (of: Credentials) => (secret: string) => {
  const bad = JSON.stringify({
    status: secret,
    network_type: secret,
    battery_pct: secret,
    x: secret,
  })
  const fields = [
    { aliases: [`${secret} `] },
    { aliases: ['S99'], expires_in_sec: secret, uses_allowed: secret },
  ]
  return [
    post('/v1/heartbeat', of.deviceToken, bad),
    post('/v1/heartbeat', of.deviceToken, secret),
    post('/v1/heartbeat', of.deviceToken, `{"status":${secret}}`),
    post(
      '/v1/action-result',
      of.deviceToken,
      JSON.stringify({ request_id: secret, outcome: 'ok' }),
    ),
    post('/v1/action-result', of.deviceToken, JSON.stringify({ request_id: 'x', outcome: secret })),
    post('/v1/register', of.enrollmentToken, JSON.stringify({ alias: secret })),
    post('/admin/command', of.adminToken, JSON.stringify({ alias: secret, action: secret })),
    post('/admin/command', of.adminToken, `{"alias":"S03","action":"ping","params":"${secret}"}`),
    ...fields.map((body) => post('/v1/enroll-tokens', of.adminToken, JSON.stringify(body))),
  ]
}

/** A result that the device signed with its key; the other time too old to count. */
function signed({ deviceToken, hmacKey }: Credentials, atMs: number): HttpRequest {
  const t = Math.floor(atMs / 1_000)
  const v1 = createHmac('sha256', hmacKey).update(`${t}\nno such text`).digest('hex')
  const request = post('/v1/action-result', deviceToken, '{"request_id":"x","outcome":"success"}')
  return { ...request, headers: { ...request.headers, 'x-signature': `t=${t},v1=${v1}` } }
}

function get(path: string, token: string): HttpRequest {
  return { method: 'GET', path, headers: { authorization: `Bearer ${token}` } }
}

function post(path: string, token: string, body: string): HttpRequest {
  return { method: 'POST', path, headers: jsonHeaders(token), body }
}

function withHeaders(headers: Readonly<Record<string, string>>): HttpRequest {
  return { method: 'POST', path: '/v1/heartbeat', headers, body: '{}' }
}
