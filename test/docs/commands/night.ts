/** A night in the life of a service: each documented command finds what it looks for. */
import pg from 'pg'
import type { Test } from 'tap'
import { makeApk } from '../../../sim/apk.ts'
import { pushSettings, startFakeFcm } from '../../../sim/fcm/fake-fcm.ts'
import { until } from '../../../testkit/until.ts'
import { connect } from '../../helpers/database.ts'
import { head, sendRaw } from '../../helpers/raw.ts'
import { type Running, startService } from '../../helpers/service.ts'
import { readCluster } from '../../runner/cluster.ts'

export interface Night {
  readonly service: Running
  /** Of D01. */
  readonly deviceId: string
}

/** The owner's loop with D01 and the command ring-1, refusals, an outage of the database, and D02, its push token dead, gone silent. */
export async function liveANight(t: Test): Promise<Night> {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  const service = await startService(t, {
    env: pushSettings(fcm),
  })
  await databaseOutage(t, service)

  await service.call('PUT', '/admin/apk/builds/b7?version_code=7', {
    raw: makeApk({ versionCode: 7 }),
  })
  fcm.register('push-1', () => {})
  const { deviceId, token, enrollmentToken } = await service.enroll('D01', { fcm_token: 'push-1' })
  await service.call('POST', '/v1/heartbeat', { token, body: { battery_pct: 87 } })
  await service.call('POST', '/v1/heartbeat', { token: `dt_${'w'.repeat(43)}`, body: {} })
  await service.call('POST', '/admin/command', {
    body: { alias: 'D01', action: 'ring', request_id: 'ring-1' },
  })
  const result = { request_id: 'ring-1', outcome: 'success' }
  await service.call('POST', '/v1/action-result', { token, body: result })
  await service.call('GET', '/v1/apk/download-latest', { token: enrollmentToken })
  await service.lines.waitFor((line) => line.event === 'apk.download')
  await sendRaw(
    t,
    service.origin,
    head('POST /v1/heartbeat HTTP/1.1', 'Transfer-Encoding: gzip, chunked'),
  )
  await service.lines.waitFor((line) => line['error'] === 'transfer_encoding')

  // FCM does not know this push token.
  const silent = await service.enroll('D02', { fcm_token: 'push-2' })
  await service.call('POST', '/admin/command', {
    body: { alias: 'D02', action: 'ring', request_id: 'ring-2' },
  })
  await service.lines.waitFor((line) => line.event === 'push.token_dead')
  const db = await connect(t, service.databaseUrl)
  const anHourAgo = `update device_status set last_seen_at = now() - interval '1 hour' where device_id = $1`
  await db.query(anHourAgo, [silent.deviceId])
  return { service, deviceId }
}

/** Nobody gets in, and all who are in are thrown out, until `meanwhile` is over. */
export async function databaseOutage(
  t: Test,
  service: Running,
  meanwhile = async () => {},
): Promise<void> {
  const admin = await connect(t, readCluster().url)
  const name = new URL(service.databaseUrl).pathname.slice(1)
  const database = pg.escapeIdentifier(name)
  await admin.query(`alter database ${database} with allow_connections false`)
  const throwOut =
    'select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = $1'
  await admin.query(throwOut, [name])
  await until(async () => (await service.call('GET', '/readyz')).status === 503)
  await service.lines.waitFor((line) => line.event === 'db.unavailable')
  await meanwhile()
  await admin.query(`alter database ${database} with allow_connections true`)
  await until(async () => (await service.call('GET', '/readyz')).status === 200)
  await service.lines.waitFor((line) => line.event === 'db.recovered')
}
