/** What admins read, however often, leaves connections of the database to phones. */

import { randomUUID } from 'node:crypto'
import t from 'tap'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import { until } from '../../testkit/until.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

/** What reads the database for an admin, of what is not there. */
const READS = ROUTE_LIST.filter(
  ({ method, guard, path }) =>
    method === 'GET' &&
    (guard === 'admin' || guard === 'downloader') &&
    !['/openapi.json', '/metrics'].includes(path),
).map(({ path }) => path.replace('{device_id}', randomUUID()).replace(/{\w+}/, 'none'))

// Of three general connections one is for what admins read.
const service = await startService(t, { env: { DATABASE_POOL_MAX: '6' } })
const db = await connect(t, service.databaseUrl)

t.test('hundreds of reads at once refuse no phone', async (t) => {
  const phones = await Promise.all(['D01', 'D02', 'D03'].map((alias) => service.enroll(alias)))
  await db.query('begin')
  await db.query('lock table audit_log, jobs, apk_builds in access exclusive mode')
  let isOver = false
  const readOn = async (path: string) => {
    while (!isOver) await service.call('GET', path)
  }
  const reading = Array.from({ length: 75 }, (_, n) =>
    ['/admin/audit', `/admin/jobs/j${n}`, '/admin/apk/builds/none/download'].map(readOn),
  ).flat()
  try {
    const line = await service.lines.waitFor((each) => each['error'] === 'overloaded')
    t.match(line, { event: 'http.error', cause: 'no_connection' })
    const body = { request_id: 'nobodys', outcome: 'success' }
    for (const nth of [1, 2]) {
      const results = await Promise.all(
        phones.map(({ token }) => service.call('POST', '/v1/action-result', { token, body })),
      )
      t.same(
        results.map(({ status }) => status),
        [404, 404, 404],
        `results ${nth}`,
      )
    }
  } finally {
    isOver = true
    await db.query('commit')
    await Promise.all(reading)
  }
})

t.test('a change is answered and has its line, however much admins read', async (t) => {
  const phone = await service.enroll('D04')
  const jobId = 'read-much'
  const where = 'alias:D04'
  const job = { where, action: 'ring', job_id: jobId }
  t.equal((await service.call('POST', '/admin/jobs', { body: job })).status, 202)
  await until(async () => {
    const { counts } = (await service.call('GET', `/admin/jobs/${jobId}`)).body
    return counts.waiting === 0
  })
  await db.query('begin')
  await db.query('lock table apk_builds in access exclusive mode')
  let isOver = false
  const readOn = async () => {
    while (!isOver) await service.call('GET', '/admin/apk/builds/none/download')
  }
  const refused = () => service.lines.of('apk.download.fail').length
  const before = refused()
  const reading = Array.from({ length: 300 }, readOn)
  try {
    await service.lines.waitFor(() => refused() > before, 'their share is full')
    const changes: readonly [string, string, object?][] = [
      ...Array.from({ length: 5 }, (_, n): [string, string, object] => [
        'PATCH',
        `/admin/devices/${phone.deviceId}`,
        { labels: { site: `s${n}` } },
      ]),
      ['POST', `/admin/jobs/${jobId}/pause`],
      ['POST', `/admin/jobs/${jobId}/resume`],
      ['POST', '/admin/jobs', job],
      ['DELETE', `/admin/commands/${jobId}.1`],
    ]
    for (const [method, path, body] of changes) {
      const { status, text } = await service.call(method, path, body && { body })
      t.same([status, status === 200 || text], [200, true], `${method} ${path}`)
    }
  } finally {
    isOver = true
    await db.query('commit')
    await Promise.all(reading)
  }
  t.equal(service.lines.of('device.label').length, 5)
})

t.test('every GET of an admin waits for their share of the connections', async (t) => {
  await db.query('begin')
  await db.query('lock table audit_log in access exclusive mode')
  const first = service.call('GET', '/admin/audit')
  const waiting = `select from pg_locks where relation = 'audit_log'::regclass and not granted`
  await until(async () => (await db.query(waiting)).rowCount === 1)
  const responses = await Promise.all(READS.map((path) => service.call('GET', path)))
  await db.query('commit')
  const endOf = async ({ requestId }: TestResponse) =>
    service.lines.all.indexOf(await service.lines.terminalOf(requestId))
  const freeAt = await endOf(await first)
  for (const [n, path] of READS.entries()) {
    const response = responses[n]
    t.ok(response && (await endOf(response)) > freeAt, path)
  }
})
