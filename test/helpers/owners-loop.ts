/** The owner's loop on real parts: enroll → heartbeat → command → result → APK, with one single-use token. */
import type { Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { connect } from './database.ts'
import { COMMON_KEYS } from './lines.ts'
import { type StartOptions, startService } from './service.ts'

/** Starts a service and closes the loop once, from its first request to its end by SIGTERM. */
export async function closeTheLoop(t: Test, options: StartOptions = {}): Promise<void> {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  const service = await startService(t, {
    ...options,
    env: {
      ...pushSettings(fcm),
      ...options.env,
    },
  })
  const db = await connect(t, service.databaseUrl)
  const apk = makeApk({ sizeBytes: 300_000, versionCode: 7, versionName: '1.7' })
  const published = await service.call(
    'PUT',
    '/admin/apk/builds/b1?version_code=7&version_name=1.7',
    {
      raw: apk,
    },
  )
  t.equal(published.status, 201, published.text)

  const device = await service.enroll('D01', { fcm_token: 'push-1', model: 'R4S' })
  const heartbeat = await service.call('POST', '//v1/heartbeat', {
    token: device.token,
    body: { status: 'ok', battery_pct: 87, network_type: 'wifi', uptime_s: 12345 },
    headers: { 'x-request-id': 'beat-1' },
  })
  t.match(heartbeat, { status: 200, body: { ok: true, deduped: false, commands: [], ignored: [] } })

  const pushed = new Promise<Readonly<Record<string, string>>>((resolve) => {
    fcm.register('push-1', resolve)
  })
  const command = await service.call('POST', '/admin/command?wait_ms=10000', {
    body: { alias: 'D01', action: 'ping', params: { note: 'hello' } },
    headers: { 'x-request-id': 'cmd-1' },
  })
  t.match(command, {
    status: 202,
    body: { request_id: 'cmd-1', status: 'sent', push: { state: 'sent', attempts: 1 } },
  })
  const data = await pushed
  t.match(data, { action: 'ping', request_id: 'cmd-1', attempt: '1', note: 'hello' })

  const result = await service.call('POST', '/v1/action-result', {
    token: device.token,
    body: { request_id: 'cmd-1', outcome: 'success', message: 'pong' },
    headers: { 'x-request-id': 'result-1' },
  })
  t.match(result, { status: 200, body: { ok: true, duplicate: false, request_id: 'cmd-1' } })
  t.equal(result.requestId, 'result-1')

  const story = await service.call('GET', '/admin/commands/cmd-1')
  t.equal(story.body.status, 'completed')
  t.equal(story.body.verdict.code, 'completed')
  t.same(
    story.body.timeline.map((step: { stage: string }) => step.stage),
    ['accepted', 'push_sent', 'result'],
  )

  const download = await service.call('GET', '/v1/apk/download-latest', {
    token: device.enrollmentToken,
    headers: { 'x-request-id': 'apk-1' },
  })
  t.equal(download.status, 200)
  t.ok(Buffer.from(apk).equals(Buffer.from(download.bytes)), 'the very bytes come back')
  await service.lines.terminalOf('apk-1')
  const { rows } = await db.query('select * from apk_download_events')
  t.match(rows, [{ source: 'enrollment', build_id: 'b1', completed: true, request_id: 'apk-1' }])

  const storyLines = service.lines.all.filter((line) => line['request_id'] === 'cmd-1')
  t.same(
    storyLines.map((line) => line.event).sort(),
    ['action_result.ingest', 'dispatch.request', 'dispatch.sent', 'http.request'],
    'one request_id tells the whole story',
  )
  t.match(await service.lines.terminalOf('result-1'), {
    event: 'action_result.ingest',
    request_id: 'cmd-1',
    http_request_id: 'result-1',
    device_id: device.deviceId,
    alias: 'D01',
  })
  const terminal = service.lines.all.filter((line) => line['status_code'] !== null)
  const ends = (route: string) =>
    terminal.filter((line) => line['route'] === route).map((line) => line.event)
  t.same(ends('/v1/register'), ['register.success'], 'one terminal line each')
  t.same(ends('/v1/heartbeat'), ['heartbeat.ingest'])
  t.same(ends('/admin/command'), ['http.request'])
  t.same(ends('/v1/action-result'), ['action_result.ingest'])
  t.same(ends('/v1/apk/download-latest'), ['apk.download'])
  for (const line of service.lines.all) {
    t.same(
      Object.keys(line).slice(0, COMMON_KEYS.length),
      COMMON_KEYS,
      `${line.event} has the common keys`,
    )
  }

  const metrics = await service.call('GET', '/metrics')
  t.match(metrics.text, 'heartbeats_ingested_total 1\n')
  t.match(metrics.text, 'fcm_dispatch_latency_ms_count{action="ping"} 1\n')
  t.match(metrics.text, 'apk_download_total{build_type="debug",source="enrollment"} 1\n')
  t.equal(await service.stop(), 0)
}
