/** The tasks of docs/operate/tasks.md: the fleet that they are done with, and what they print. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { makeApk } from '../../../sim/apk.ts'
import { pushSettings, startFakeFcm } from '../../../sim/fcm/fake-fcm.ts'
import { until, untilMidnightIsFar } from '../../../testkit/until.ts'
import { connect } from '../../helpers/database.ts'
import { type PageBlock, readPage } from '../../helpers/pages.ts'
import { type Running, startService } from '../../helpers/service.ts'
import { ROOT } from './tour.ts'

export const TASKS = 'docs/operate/tasks.md'
const STORES = ['STORE-1', 'STORE-2', 'STORE-3'] as const

/** D01 with two days of heartbeats, D02 silent for an hour and its push token dead, D03 to be erased, three phones of stores, a job that has failed on one. */
export async function startTaskFleet(t: Test): Promise<Running> {
  await untilMidnightIsFar()
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  const service = await startService(t, { env: pushSettings(fcm) })
  const db = await connect(t, service.databaseUrl)
  const call = service.call
  const beat = (token: string, body: Readonly<Record<string, unknown>>) =>
    call('POST', '/v1/heartbeat', { token, body: { network_type: 'wifi', ...body } })

  const d01 = await service.enroll('D01', { model: 'R4S', manufacturer: 'Radxa', sdk_int: 33 })
  await beat(d01.token, { battery_pct: 87, plugged: true, app_version: '1.0.25' })
  for (const daysAgo of [1, 2]) await db.query(partitionOf(daysAgo))
  await db.query(
    `insert into heartbeats (bucket, device_id, seq, received_at, status, battery_pct, network_type, app_version, request_id)
     select now() - hours * interval '1 hour', $1, 0, now() - hours * interval '1 hour', 'ok', pct, 'lte', '1.0.24', 'r' || hours
     from (values (40, 35), (20, 62), (10, 12)) v (hours, pct)`,
    [d01.deviceId],
  )
  const ring = { alias: 'D01', action: 'ring', request_id: 'ring-1' }
  await call('POST', '/admin/command', { body: ring })
  const rang = { request_id: 'ring-1', ...OK, message: 'rang 5 s' }
  await call('POST', '/v1/action-result', { token: d01.token, body: rang })
  const d02 = await service.enroll('D02', { fcm_token: 'push-gone' })
  await beat(d02.token, { battery_pct: 9, plugged: false, app_version: '1.0.24' })
  await call('POST', '/admin/command', {
    body: { alias: 'D02', action: 'ring', request_id: 'ring-2' },
  })
  await service.lines.waitFor((line) => line.event === 'push.token_dead')
  await service.enroll('D03')
  const phones = new Map<string, string>()
  for (const alias of STORES) {
    fcm.register(`push-${alias}`, () => {})
    const { token } = await service.enroll(alias, { fcm_token: `push-${alias}` })
    const version = alias === 'STORE-2' ? '1.0.24' : '1.0.25'
    await beat(token, { battery_pct: 50, plugged: true, app_version: version })
    phones.set(alias, token)
  }
  await db.query(
    `update device_status set last_seen_at = now() - interval '1 hour' where device_id = $1`,
    [d02.deviceId],
  )
  const labels = { labels: { site: 'zrh' } }
  await call('PATCH', `/admin/devices/${d01.deviceId}`, { body: labels })

  const job = { job_id: 'update-7', where: 'alias:STORE-*', action: 'update' }
  await call('POST', '/admin/jobs', { body: job })
  const member = (n: number) => `/admin/commands/update-7.${n}`
  await until(async () => (await call('GET', member(STORES.length))).status === 200)
  for (const [index, alias] of STORES.entries()) {
    const request_id = `update-7.${index + 1}`
    const end = index === 1 ? { outcome: 'failure', message: 'no space left' } : OK
    await call('POST', '/v1/action-result', {
      token: phones.get(alias) ?? '',
      body: { request_id, ...end },
    })
  }
  await until(async () => (await call('GET', '/admin/jobs/update-7')).body.state === 'done')
  const rows = Array.from(
    { length: 30 },
    (_, n) => `E${n + 1},shelf ${Math.floor(n / 10) + 1},zrh\n`,
  )
  writeFileSync(join(service.dataDir, 'phones.csv'), `alias,note,site\n${rows.join('')}`)
  const apk = { seed: 'app', versionCode: 50, versionName: '1.7' }
  writeFileSync(join(service.dataDir, 'app.apk'), makeApk(apk))
  await call('PUT', '/admin/apk/builds/app-49', { raw: makeApk({ ...apk, versionCode: 49 }) })
  return service
}

/** Days before the first start have none. */
function partitionOf(daysAgo: number): string {
  const at = (offset: number) =>
    new Date(Date.now() - offset * 86_400_000).toISOString().slice(0, 10)
  return `create table heartbeats_${at(daysAgo).replaceAll('-', '')} partition of heartbeats
    for values from ('${at(daysAgo)}T00:00Z') to ('${at(daysAgo - 1)}T00:00Z')`
}

const OK = { outcome: 'success' }

/** Until no push is on its way and no job releases: the state that the next command shows is the same each time. */
export async function settle({ call }: Running): Promise<void> {
  await until(async () => {
    const { commands } = (await call('GET', '/admin/commands?status=queued&limit=500')).body
    const isPending = ({ push }: { readonly push: { readonly state: string } }) =>
      !['no_token', 'gave_up', 'off'].includes(push.state)
    const { jobs } = (await call('GET', '/admin/jobs?state=running')).body
    const isMoving = ({ counts }: { readonly counts: Readonly<Record<string, number>> }) =>
      counts['waiting'] !== 0 || counts['queued'] !== 0
    return !commands.some(isPending) && !jobs.some(isMoving)
  }, 'no push on its way')
}

/** For UPDATE_TASKS=1: writes what the commands printed behind them, as if the service ran where the page says. */
export function writeOutputs(
  { origin, dataDir }: Running,
  outputs: ReadonlyMap<PageBlock, string>,
): void {
  const lines = readPage(TASKS).split('\n')
  for (const [{ line, text }, printed] of [...outputs].toReversed()) {
    const shown = printed
      .replaceAll(origin, 'http://127.0.0.1:8080')
      .replaceAll(dataDir, '/var/lib/fleetloop')
    lines.splice(line, text.split('\n').length - 1, ...shown.trimEnd().split('\n'))
  }
  writeFileSync(join(ROOT, TASKS), lines.join('\n'))
}
