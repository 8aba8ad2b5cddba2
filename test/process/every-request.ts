/** One request of every kind, and what is answered where the database is there, or is not. */
import type { Test } from 'tap'
import type { TestResponse } from '../helpers/client.ts'
import type { Enrolled, Running } from '../helpers/service.ts'

export interface Ask {
  readonly method: string
  readonly path: string
  readonly token?: string
  readonly body?: unknown
  /** Where the database answers. */
  readonly status: number
}

/** One of every kind of request, each with a credential that is good. */
export function asks(device: Enrolled): readonly Ask[] {
  const { token, enrollmentToken } = device
  const path = '/v1/apk/download-latest'
  return [
    { method: 'POST', path: '/v1/heartbeat', token, body: {}, status: 200 },
    {
      method: 'POST',
      path: '/v1/action-result',
      token,
      body: { request_id: 'none', outcome: 'ok' },
      status: 404,
    },
    {
      method: 'POST',
      path: '/v1/devices/ack',
      token,
      body: { request_id: 'none', status: 'OK' },
      status: 404,
    },
    {
      method: 'POST',
      path: '/v1/devices/fcm-token',
      token,
      body: { fcm_token: 'p1' },
      status: 200,
    },
    {
      method: 'POST',
      path: '/v1/devices/push-id',
      token,
      body: { fid: 'p2' },
      status: 200,
    },
    { method: 'POST', path: '/v1/register', token: enrollmentToken, body: {}, status: 401 },
    { method: 'GET', path, token, status: 404 },
    { method: 'GET', path, token: enrollmentToken, status: 404 },
    { method: 'GET', path, status: 404 },
    { method: 'POST', path: '/v1/enroll-tokens', body: { aliases: ['D99'] }, status: 201 },
    { method: 'GET', path: '/v1/enroll-tokens', status: 200 },
    { method: 'POST', path: '/admin/command', body: { alias: 'D01', action: 'ping' }, status: 202 },
    { method: 'GET', path: '/admin/commands', status: 200 },
    { method: 'GET', path: '/admin/commands/none', status: 404 },
    { method: 'DELETE', path: '/admin/commands/none', status: 404 },
    { method: 'GET', path: '/admin/devices', status: 200 },
    { method: 'GET', path: `/admin/devices/${device.deviceId}`, status: 200 },
    { method: 'GET', path: '/admin/apk/builds', status: 200 },
    { method: 'GET', path: '/admin/audit', status: 200 },
  ]
}

export function ask(service: Running, { method, path, token, body }: Ask): Promise<TestResponse> {
  return service.call(method, path, {
    ...(token !== undefined && { token }),
    ...(body !== undefined && { body }),
  })
}

/** All of them, one after the other, as a database that is well has them answered. */
export async function everyAsk(
  t: Test,
  service: Running,
  device: Enrolled,
  when: string,
): Promise<void> {
  for (const each of asks(device)) {
    t.match(
      await ask(service, each),
      { status: each.status },
      `${when}: ${each.method} ${each.path}`,
    )
  }
}
