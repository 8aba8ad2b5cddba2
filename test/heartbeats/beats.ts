/** Two replicas whose window is a day, with a fake FCM: heartbeats, and what is kept of them. */
import t from 'tap'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { untilMidnightIsFar } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { type Enrolled, type Running, startService } from '../helpers/service.ts'

await untilMidnightIsFar()
export const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
const env = {
  HEARTBEAT_DEDUP_WINDOW_S: '86400', // a day of UTC: no test sees its end
  ...pushSettings(fcm),
}
export const service = await startService(t, { env })
/** One whose phones send a heartbeat every 10 s. */
export const replica = await startService(t, {
  env: { ...env, HEARTBEAT_INTERVAL_S: '10' },
  databaseUrl: service.databaseUrl,
})
export const db = await connect(t, service.databaseUrl)

export const beat = (device: Enrolled, body: object, requestId?: string, on: Running = service) =>
  on.call('POST', '/v1/heartbeat', {
    token: device.token,
    body,
    headers: requestId === undefined ? {} : { 'x-request-id': requestId },
  })

export async function row(table: 'devices' | 'device_status', { deviceId }: Enrolled) {
  return (await db.query(`select * from ${table} where device_id = $1`, [deviceId])).rows[0]
}

export const history = async ({ deviceId }: Enrolled) =>
  (await db.query('select * from heartbeats where device_id = $1', [deviceId])).rows

export async function count(name: string): Promise<number> {
  const { text } = await service.call('GET', '/metrics')
  const line = text.split('\n').find((one) => one.startsWith(`${name} `))
  return Number(line?.slice(name.length + 1) ?? 0)
}

/** Minutes from now, as a phone writes it. */
export const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString()

/** Opens a command that FCM is asked to push once; gives its id. */
export async function command(device: Enrolled, requestId: string): Promise<string> {
  const body = { device_id: device.deviceId, action: 'ping', request_id: requestId }
  t.equal((await service.call('POST', '/admin/command?wait_ms=10000', { body })).status, 202)
  return requestId
}

/** As if all that is known of the device had come so many seconds earlier, by either clock. */
export async function passes({ deviceId }: Enrolled, seconds: number): Promise<void> {
  const shifted = (column: string) => `${column} = ${column} - make_interval(secs => $2)`
  for (const [table, ...columns] of [
    ['device_status', 'last_seen_at', 'effective_at', 'clock_ahead_at', 'clock_at', 'doubted_at'],
    ['devices', 'fcm_token_at', 'fcm_token_due_at'],
  ] as const) {
    const text = `update ${table} set ${columns.map(shifted).join(', ')} where device_id = $1`
    await db.query(text, [deviceId, seconds])
  }
}

export const EVERY_S = 300

export const hours = (count: number) => count * 60

export const give = (on: Running, { token }: Enrolled, fcm_token: string) =>
  on.call('POST', '/v1/devices/fcm-token', { token, body: { fcm_token } })
