/** APKs under way when the service ends, and an end where nothing else gets on either. */
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { connect as connectSocket, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { lineTo } from '../../testkit/database/tcp-proxy.ts'
import { until } from '../../testkit/until.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { head, openRaw } from '../helpers/raw.ts'
import { ADMIN, type Running, settle, startService } from '../helpers/service.ts'

const AUTHORIZED = `Authorization: Bearer ${ADMIN}`
const LATEST = '/v1/apk/download-latest'
/** More than the sockets of both sides hold. */
const apk = makeApk({ sizeBytes: 24_000_000, versionName: '1' })

async function publish(service: Running): Promise<void> {
  const path = '/admin/apk/builds/b1?version_code=1&version_name=1'
  const { status, text } = await service.call('PUT', path, { raw: apk })
  if (status !== 201) throw new Error(`publishing answered ${status} ${text}`)
}

/** A download that has begun, and whose client takes no more of it for now. */
async function openDownload(t: Test, service: Running): Promise<Socket> {
  const socket = connectSocket(Number(new URL(service.origin).port), '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  socket.write(head(`GET ${LATEST} HTTP/1.1`, AUTHORIZED, 'X-Request-ID: download'))
  await once(socket, 'readable')
  return socket
}

async function untilPortIsClosed(service: Running): Promise<void> {
  await until(() =>
    service.call('GET', '/healthz').then(
      () => false,
      () => true,
    ),
  )
}

t.test('a download under way is given to its end', async (t) => {
  const service = await startService(t)
  await publish(service)
  const socket = await openDownload(t, service)
  service.process.kill('SIGTERM')
  await untilPortIsClosed(service)
  let readBytes = 0
  socket.on('data', ({ length }: Buffer) => {
    readBytes += length
  })
  await once(socket, 'close')
  t.ok(readBytes > apk.length, 'all of it, and a head')
  t.equal(await service.stop(), 0)
  const whole = { event: 'apk.download', status_code: 200, bytes_sent: apk.length }
  t.match(await service.lines.terminalOf('download'), whole)
  const db = await connect(t, service.databaseUrl)
  t.match((await db.query('select completed from apk_download_events')).rows, [{ completed: true }])
})

t.test('a download that nobody reads is cut off in time, its row and line complete', async (t) => {
  const service = await startService(t, { env: { SHUTDOWN_GRACE_MS: '6000' } })
  await publish(service)
  await openDownload(t, service)
  t.equal(await service.stop(), 0)
  const cut = { event: 'apk.download.fail', status_code: 499, reason: 'client_closed' }
  t.match(await service.lines.terminalOf('download'), cut)
  t.equal(service.lines.all.at(-1)?.event, 'service.stop')
  const db = await connect(t, service.databaseUrl)
  const { rows } = await db.query('select completed, ended_at from apk_download_events')
  t.match(rows, [{ completed: false, ended_at: Date }])
})

t.test('an upload that stops half-way is told to come again, and nothing is kept', async (t) => {
  const service = await startService(t, { env: { SHUTDOWN_GRACE_MS: '4000' } })
  const upload = await openRaw(t, service.origin)
  const put = 'PUT /admin/apk/builds/half?version_code=1 HTTP/1.1'
  upload.write(head(put, AUTHORIZED, `Content-Length: ${apk.length}`, 'X-Request-ID: half'))
  upload.write(apk.subarray(0, 100_000))
  const spool = join(service.dataDir, 'spool')
  await until(() => existsSync(spool) && readdirSync(spool).length === 1)
  t.equal(await service.stop(), 0)
  t.match(await upload.answer(), {
    status: 503,
    body: { code: 'shutting_down' },
    headers: { 'retry-after': /\d/ },
  })
  t.match(await service.lines.terminalOf('half'), { event: 'http.error', status_code: 503 })
  const db = await connect(t, service.databaseUrl)
  t.equal((await db.query('select from apk_builds')).rowCount, 0)
})

t.test(
  'an end where client, reader, FCM and database all stand still is in its grace',
  async (t) => {
    const line = await lineTo(t, await createDatabase(t))
    const fcm = await startFakeFcm()
    t.teardown(() => fcm.close())
    fcm.setMode({ fcm: 'hang' })
    const service = await startService(t, {
      databaseUrl: line.url,
      env: {
        ...pushSettings(fcm),
        FCM_TIMEOUT_MS: '15000', // the most
        LOG_BUFFER_BYTES: '65536',
        SHUTDOWN_GRACE_MS: '9000',
      },
    })
    await publish(service)
    await service.enroll('D01', { fcm_token: 'push-1' })
    await service.call('POST', '/admin/command?wait_ms=0', {
      body: { alias: 'D01', action: 'ping' },
    })
    await fcm.waitForSend(() => true, 30_000)
    await openDownload(t, service)
    service.process.stdout?.pause()
    const requests = 1_000
    const flood = await openRaw(t, service.origin)
    // Of an admin: the lines of anonymous refusals are limited.
    const known = [AUTHORIZED, `User-Agent: ${'a'.repeat(256)}`]
    flood.write(head('GET /admin/audit?nothing=1 HTTP/1.1', ...known).repeat(requests))
    await flood.answer(requests)
    line.freeze()
    t.equal(await service.stop(), 0, 'not by its watchdog')
    t.match(service.stderr(), /log: \d+ lines written, [1-9]\d* dropped/)
  },
)

t.test('a response behind one that waits is sent, too', async (t) => {
  const service = await startService(t)
  await service.enroll('D01')
  const body = { alias: 'D01', action: 'ping', request_id: 'c1' }
  await service.call('POST', '/admin/command', { body })
  const waiting = head('GET /admin/commands/c1?wait_ms=30000 HTTP/1.1', AUTHORIZED)
  const tokens = '{"aliases":["D02"]}'
  const length = `Content-Length: ${tokens.length}`
  const create = head('POST /v1/enroll-tokens HTTP/1.1', AUTHORIZED, length)
  const connection = await openRaw(t, service.origin)
  connection.write(`${waiting}${create}${tokens}`)
  await settle(service) // so both have been read
  service.process.kill('SIGTERM')
  await connection.answer(2)
  t.same(
    connection.answers.map(({ status }) => status),
    [200, 201],
  )
  t.equal(await service.stop(), 0)
})
