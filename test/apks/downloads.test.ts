/** Downloads of an APK: who gets which bytes, and the one row, line and count of each. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectSocket, type Socket } from 'node:net'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import type { CallOptions } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { ADMIN, type Running, startService } from '../helpers/service.ts'

const LATEST = '/v1/apk/download-latest'
const LARGE = `${LATEST}?build_type=large`
const SIZE_BYTES = 1_500_000
/** More than the sockets of both sides hold. */
const LARGE_BYTES = 24_000_000
const apk = makeApk({ sizeBytes: SIZE_BYTES, versionCode: 7, versionName: '1.7' })
const sha256 = createHash('sha256').update(apk).digest('hex')
const etag = `"${sha256}"`

const service = await startService(t, { env: { RATE_LIMIT_APK_PER_TOKEN_PER_MIN: '1000' } })
const db = await connect(t, service.databaseUrl)
await publish('b1', 7, apk)
await publish(
  'large',
  1,
  makeApk({ sizeBytes: LARGE_BYTES, versionName: '1.1' }),
  '&build_type=large',
)

async function publish(id: string, versionCode: number, raw: Uint8Array, more = ''): Promise<void> {
  const path = `/admin/apk/builds/${id}?version_code=${versionCode}&version_name=1.${versionCode}${more}`
  const { status, text } = await service.call('PUT', path, { raw })
  if (status !== 201) throw new Error(`publishing answered ${status} ${text}`)
}

const asked = ['leaver', 'before', 'behind']

/** One download with its terminal line and its row, both complete. */
async function download(
  requestId: string,
  options: CallOptions = {},
  path = LATEST,
  method = 'GET',
) {
  asked.push(requestId)
  const headers = { ...options.headers, 'x-request-id': requestId }
  const response = await service.call(method, path, { ...options, headers })
  const line = await service.lines.terminalOf(requestId)
  return { answer: response, line, rows: await rowsOf(requestId) }
}

async function rowsOf(requestId: string) {
  const sql =
    'select *, range_start::int, bytes_sent::int from apk_download_events where request_id = $1'
  return (await db.query(sql, [requestId])).rows
}

async function counterOf(of: Running): Promise<Record<string, number>> {
  const { text } = await of.call('GET', '/metrics')
  const cells = text.matchAll(/^apk_download_total\{build_type="(\w+)",source="(\w+)"\} (\d+)$/gm)
  const counted = [...cells].filter(([, , , count]) => count !== '0')
  return Object.fromEntries(counted.map(([, type, source, n]) => [`${type} ${source}`, Number(n)]))
}

/** Asks on a socket of its own, each behind the one before, and reads only on request. */
function askRaw(from: Running, token: string, path: string, ...requestIds: string[]): Socket {
  const socket = connectSocket(Number(new URL(from.origin).port), '127.0.0.1')
  socket.on('error', () => {})
  const head = `GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\nx-request-id:`
  socket.write(requestIds.map((id) => `${head} ${id}\r\n\r\n`).join(''))
  return socket
}

t.test('a whole download carries the bytes, their names and one row and line', async (t) => {
  const device = await service.enroll('whole-1')
  const { answer: response, line, rows } = await download('whole', { token: device.token })
  t.equal(response.status, 200)
  t.ok(Buffer.from(response.bytes).equals(apk), 'the very bytes')
  for (const [name, value] of Object.entries({
    'content-type': 'application/vnd.android.package-archive',
    'content-length': String(SIZE_BYTES),
    etag,
    'accept-ranges': 'bytes',
    'x-apk-sha256': sha256,
    'x-apk-version-code': '7',
    'x-apk-build-id': 'b1',
    'content-disposition': 'attachment; filename="b1.apk"',
  })) {
    t.equal(response.headers.get(name), value, name)
  }
  t.match(line, { event: 'apk.download', level: 'INFO', build_id: 'b1', version_code: 7 })
  t.match(line, { version_name: '1.7', build_type: 'debug', token_id: null, source: 'ota' })
  t.match(line, { bytes_sent: SIZE_BYTES, status_code: 200, device_id: device.deviceId })
  t.match(rows, [{ build_id: 'b1', source: 'ota', device_id: device.deviceId, admin: null }])
  t.match(rows, [{ token_id: null, ip: '127.0.0.1', status_code: 200, range_start: null }])
  t.match(rows, [{ bytes_sent: SIZE_BYTES, completed: true, ended_at: Date }])
})

t.test('each credential is a source of its own and no use is consumed', async (t) => {
  const { token: device, enrollmentToken, deviceId } = await service.enroll('source-1')
  const body = { aliases: ['source-2'] }
  const unused = (await service.call('POST', '/v1/enroll-tokens', { body })).body.tokens[0]
  const exhausted = (await service.call('GET', '/v1/enroll-tokens?status=exhausted')).body.tokens[0]
  for (const [id, source, token, row] of [
    ['s1', 'ota', device, { device_id: deviceId, token_id: null, admin: null }],
    ['s2', 'enrollment', unused.token, { token_id: unused.token_id, device_id: null, admin: null }],
    ['s3', 'enrollment', enrollmentToken, { token_id: exhausted.token_id, device_id: null }],
    ['s4', 'manual', undefined, { admin: 'tester', device_id: null, token_id: null }],
  ] as const) {
    const got = await download(id, token === undefined ? {} : { token })
    t.equal(got.answer.status, 200, source)
    const tokenId = 'token_id' in row ? (row.token_id?.slice(-4) ?? null) : null
    t.match(got.line, { event: 'apk.download', source, token_id: tokenId })
    t.match(got.rows, [{ source, ...row, completed: true }])
  }
  const sql = 'select uses_consumed from enrollment_tokens where token_id = $1'
  t.same((await db.query(sql, [unused.token_id])).rows, [{ uses_consumed: 0 }])
})

t.test('parts, conditions and what cannot be satisfied follow RFC 9110', async (t) => {
  const last = SIZE_BYTES - 1
  for (const [id, headers, status, first, end, isCompleted] of [
    ['p1', { range: 'bytes=0-99' }, 206, 0, 99, false],
    ['p2', { range: 'bytes=1048570-1048589' }, 206, 1_048_570, 1_048_589, false],
    ['p3', { range: `bytes=${last}-` }, 206, last, last, true],
    ['p4', { range: 'bytes=-500' }, 206, SIZE_BYTES - 500, last, true],
    ['p5', { range: 'bytes=5-', 'if-range': etag }, 206, 5, last, true],
    ['p6', { range: 'bytes=5-', 'if-range': '"other"' }, 200, 0, last, true],
    ['p7', { range: 'bytes=0-1,5-6' }, 200, 0, last, true],
    ['p8', { range: 'lines=1-2', 'if-none-match': '"other"' }, 200, 0, last, true],
  ] as const) {
    const { answer: response, line, rows } = await download(id, { headers })
    const what = JSON.stringify(headers)
    t.equal(response.status, status, what)
    t.ok(Buffer.from(response.bytes).equals(apk.subarray(first, end + 1)), what)
    const range = status === 206 ? `bytes ${first}-${end}/${SIZE_BYTES}` : null
    t.equal(response.headers.get('content-range'), range)
    t.equal(response.headers.get('content-length'), String(end - first + 1))
    t.match(line, { event: 'apk.download', status_code: status, bytes_sent: end - first + 1 })
    const rangeStart = status === 206 ? first : null
    t.match(rows, [{ status_code: status, range_start: rangeStart, completed: isCompleted }])
    t.equal(rows.length, 1)
  }
  for (const tag of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
    const id = `cached-${tag.length}`
    const {
      answer: response,
      line,
      rows,
    } = await download(id, { headers: { 'if-none-match': tag } })
    t.match(response, { status: 304, text: '' }, tag)
    t.equal(response.headers.get('etag'), etag)
    t.match(line, { event: 'apk.download', status_code: 304, bytes_sent: 0 })
    t.same(rows, [], 'no download: no row')
  }
  const beyond = await download('beyond', { headers: { range: `bytes=${SIZE_BYTES}-` } })
  t.match(beyond.answer, { status: 416, body: { code: 'range_not_satisfiable' } })
  t.equal(beyond.answer.headers.get('content-range'), `bytes */${SIZE_BYTES}`)
  t.equal(beyond.answer.body.request_id, 'beyond')
  t.match(beyond.line, { event: 'apk.download.fail', level: 'WARN', bytes_sent: 0 })
  t.match(beyond.line, { reason: 'range_not_satisfiable', build_id: 'b1', status_code: 416 })
  t.match(beyond.rows, [{ status_code: 416, bytes_sent: 0, completed: false }])
})

t.test('preconditions hold on both routes, and a failed one is a failed download', async (t) => {
  const byId = '/admin/apk/builds/b1/download'
  const published = '2024-02-29T12:00:00.5Z'
  const since = [published, 'b1']
  await db.query('update apk_builds set published_at = $1 where build_id = $2', since)
  const lastModified = 'Thu, 29 Feb 2024 12:00:01 GMT'
  const before = 'Thursday, 29-Feb-24 12:00:00 GMT'
  const other = '"another"'
  const range = 'bytes=5-'
  let n = 0
  for (const path of [LATEST, byId]) {
    for (const [headers, status] of [
      [{}, 200],
      [{ range, 'if-match': etag }, 206],
      [{ range, 'if-match': `${other}, ${etag}` }, 206],
      [{ range, 'if-match': '*' }, 206],
      [{ range, 'if-match': other }, 412],
      [{ range, 'if-match': `W/${etag}` }, 412],
      [{ 'if-match': other, 'if-none-match': etag }, 412],
      [{ range: `bytes=${SIZE_BYTES}-`, 'if-match': other }, 412],
      [{ range, 'if-unmodified-since': lastModified }, 206],
      [{ range, 'if-unmodified-since': before }, 412],
      [{ range, 'if-unmodified-since': 'never' }, 206],
      [{ 'if-modified-since': lastModified }, 304],
      [{ 'if-modified-since': 'Thu Feb 29 12:00:01 2024' }, 304],
      [{ 'if-modified-since': before }, 200],
      [{ range, 'if-range': before }, 200],
      [{ range, 'if-range': lastModified }, path === byId ? 206 : 200],
    ] as const) {
      const id = `condition-${++n}`
      const { answer: response, line, rows } = await download(id, { headers }, path)
      const what = `${path} ${JSON.stringify(headers)}`
      t.equal(response.status, status, what)
      t.equal(response.headers.get('etag'), etag, what)
      t.equal(response.headers.get('last-modified'), path === byId ? lastModified : null, what)
      if (status === 412) {
        t.match(response.body, { code: 'precondition_failed', request_id: id }, what)
        t.match(line, { event: 'apk.download.fail', level: 'WARN', build_id: 'b1' }, what)
        t.match(line, { reason: 'precondition_failed', status_code: 412, bytes_sent: 0 }, what)
        const row = { reason: 'precondition_failed', bytes_sent: 0, completed: false }
        t.match(rows, [{ ...row, status_code: 412, range_start: null, build_id: 'b1' }], what)
      }
      const head = await download(`head-condition-${n}`, { headers }, path, 'HEAD')
      t.equal(head.answer.status, status === 206 ? 200 : status, `HEAD ${what}`)
      t.equal(head.answer.headers.get('etag'), etag, `HEAD ${what}`)
      t.same(head.rows, [], `HEAD ${what}`)
      const reason = status === 412 ? 'precondition_failed' : null
      t.match(head.line, { event: 'http.request', method: 'HEAD', reason }, `HEAD ${what}`)
    }
  }
})

t.test('repeated lines of a precondition count as one list, which no date is', async (t) => {
  const port = Number(new URL(service.origin).port)
  const later = 'Fri, 31 Dec 2100 00:00:00 GMT'
  const date = 'Sun, 06 Nov 1994 08:49:37 GMT'
  for (const [lines, status] of [
    [['If-Match: "x"', `If-Match: ${etag}`], 200],
    [['If-Match: "x"', 'If-Match: "y"'], 412],
    [['If-None-Match: "x"', `If-None-Match: W/${etag}`], 304],
    [[`If-Unmodified-Since: ${date}`], 412],
    [[`If-Unmodified-Since: ${date}`, `If-Unmodified-Since: ${date}`], 200],
    [[`If-Modified-Since: ${later}`], 304],
    [[`If-Modified-Since: ${later}`, `If-Modified-Since: ${later}`], 200],
    [['Range: bytes=0-1', `If-Range: ${etag}`, `If-Range: ${etag}`], 200],
  ] as const) {
    const socket = connectSocket(port, '127.0.0.1')
    const own = ['Host: x', `Authorization: Bearer ${ADMIN}`, 'Connection: close']
    socket.write(`HEAD ${LATEST} HTTP/1.1\r\n${[...own, ...lines].join('\r\n')}\r\n\r\n`)
    const [first] = await once(socket, 'data')
    socket.destroy()
    t.equal(Number(String(first).slice(9, 12)), status, lines.join(' | '))
  }
})

t.test('a date holds against whatever changed the latest build, a withdrawal too', async (t) => {
  const [older, newer] = [1, 2].map((versionCode) =>
    makeApk({ versionCode, versionName: `1.${versionCode}`, seed: 'back' }),
  )
  const path = `${LATEST}?build_type=back`
  await publish('back-1', 1, older ?? apk, '&build_type=back')
  await publish('back-2', 2, newer ?? apk, '&build_type=back')
  const publishedAt = `update apk_builds set published_at = now() - $1::interval where build_id = $2`
  await db.query(publishedAt, ['3 hours', 'back-1'])
  await db.query(publishedAt, ['2 hours', 'back-2'])
  const headers = { 'if-modified-since': new Date(Date.now() - 3_600_000).toUTCString() }
  t.equal((await service.call('GET', path, { headers })).status, 304)
  await service.call('DELETE', '/admin/apk/builds/back-2')
  const response = await service.call('GET', path, { headers })
  t.match(response, { status: 200 }, 'the older one is the latest only now')
  t.equal(response.headers.get('x-apk-build-id'), 'back-1')
  const since = { 'if-unmodified-since': headers['if-modified-since'] }
  t.equal((await service.call('GET', path, { headers: since })).status, 412)
})

t.test('HEAD gets the headers of GET and is no download', async (t) => {
  const { answer: response, line, rows } = await download('head', {}, LATEST, 'HEAD')
  t.equal(response.status, 200)
  t.equal(response.bytes.length, 0)
  for (const [name, value] of [
    ['content-length', String(SIZE_BYTES)],
    ['etag', etag],
    ['x-apk-version-code', '7'],
  ] as const) {
    t.equal(response.headers.get(name), value)
  }
  t.match(line, { event: 'http.request', method: 'HEAD', status_code: 200 })
  t.same(rows, [])
  const cached = await download('head-304', { headers: { 'if-none-match': etag } }, LATEST, 'HEAD')
  t.equal(cached.answer.status, 304)
  const none = await download('head-none', {}, `${LATEST}?build_type=release`, 'HEAD')
  t.equal(none.answer.status, 404)
  t.match(none.line, { event: 'http.request', method: 'HEAD', reason: 'apk_none' })
})

t.test('a dead enrollment token gets no bytes', async (t) => {
  const body = { aliases: ['dead-1', 'dead-2'] }
  const [expired, revoked] = (await service.call('POST', '/v1/enroll-tokens', { body })).body.tokens
  const id = [expired.token_id]
  await db.query('update enrollment_tokens set expires_at = now() where token_id = $1', id)
  await service.call('DELETE', `/v1/enroll-tokens/${revoked.token_id}`)
  for (const [reason, token, tokenId] of [
    ['expired', expired.token, expired.token_id.slice(-4)],
    ['revoked', revoked.token, revoked.token_id.slice(-4)],
    ['unknown', `et_${'A'.repeat(43)}`, null],
  ] as const) {
    const { answer: response, line, rows } = await download(`dead-${reason}`, { token })
    t.match(response, { status: 401, body: { code: `token_${reason}` } })
    t.match(line, { event: 'apk.download.fail', level: 'WARN', status_code: 401, build_id: null })
    t.match(line, { reason: `token_${reason}`, token_id: tokenId, bytes_sent: null })
    const beside = service.lines.of('sec.token.expired')
    const mine = beside.filter((line) => line['request_id'] === `dead-${reason}`)
    t.match(mine, [{ level: 'WARN', reason, token_id: tokenId, status_code: null }])
    t.same(rows, [])
  }
})

t.test('without a build of the type there is nothing to download', async (t) => {
  const {
    answer: response,
    line,
    rows,
  } = await download('none', {}, `${LATEST}?build_type=release`)
  t.match(response, { status: 404, body: { code: 'apk_none' } })
  t.match(line, {
    event: 'apk.download.fail',
    reason: 'apk_none',
    build_id: null,
    source: 'manual',
  })
  t.same(rows, [])
})

t.test('the row stands before the first byte, and is not completed by who leaves', async (t) => {
  const { token } = await service.enroll('leaver-1')
  const socket = askRaw(service, token, LARGE, 'leaver')
  const [first] = await once(socket, 'data')
  socket.pause()
  t.match(String(first), /^HTTP\/1\.1 200 OK\r\n/)
  t.match(await rowsOf('leaver'), [{ status_code: 200, ended_at: null, completed: false }])
  socket.destroy()
  const line = await service.lines.terminalOf('leaver')
  t.match(line, { event: 'apk.download.fail', level: 'WARN', status_code: 499 })
  t.match(line, { reason: 'client_closed', build_id: 'large', source: 'ota' })
  const [row] = await rowsOf('leaver')
  t.match(row, { completed: false, ended_at: Date, bytes_sent: line['bytes_sent'] })
  t.ok(row.bytes_sent > 0 && row.bytes_sent < LARGE_BYTES)
})

t.test('who leaves within an answer that waited behind another one ends it once', async (t) => {
  const { token } = await service.enroll('behind-1')
  const socket = askRaw(service, token, LARGE, 'before', 'behind')
  let gotBytes = 0
  socket.on('data', ({ length }: Buffer) => {
    gotBytes += length
    if (gotBytes > LARGE_BYTES + SIZE_BYTES) socket.destroy()
  })
  await once(socket, 'close')
  t.match(await service.lines.terminalOf('before'), { event: 'apk.download' })
  t.match(await service.lines.terminalOf('behind'), { reason: 'client_closed' })
  t.match(await rowsOf('behind'), [{ completed: false, ended_at: Date }])
})

t.test('who leaves as soon as the last byte is there has downloaded it', async (t) => {
  const { token } = await service.enroll('hasty-1')
  for (let index = 0; index < 20; index++) {
    const socket = askRaw(service, token, LATEST, `hasty-${index}`)
    let leftBytes = SIZE_BYTES
    socket.once('data', (piece: Buffer) => {
      leftBytes += piece.indexOf('\r\n\r\n') + 4
    })
    socket.on('data', ({ length }: Buffer) => {
      leftBytes -= length
      if (leftBytes === 0) socket.destroy()
    })
    await once(socket, 'close')
    t.match(await service.lines.terminalOf(`hasty-${index}`), { event: 'apk.download' })
    t.match(await rowsOf(`hasty-${index}`), [{ completed: true, bytes_sent: SIZE_BYTES }])
  }
})

t.test('one download too many is 503, until another client leaves', async (t) => {
  const env = { APK_MAX_DOWNLOADS: '1' }
  const replica = await startService(t, { databaseUrl: service.databaseUrl, env })
  const { token } = await replica.enroll('slots-1')
  const socket = askRaw(replica, token, LARGE, 'slot-1')
  await once(socket, 'data')
  socket.pause()
  const headers = { 'x-request-id': 'slot-2' }
  const refused = await replica.call('GET', LATEST, { token, headers })
  t.match(refused, { status: 503, body: { code: 'overloaded' } })
  t.match(refused.headers.get('retry-after'), /^[1-9]\d*$/)
  const failed = { event: 'apk.download.fail', level: 'ERROR', reason: 'overloaded' }
  t.match(await replica.lines.terminalOf('slot-2'), failed)
  t.same(await rowsOf('slot-2'), [])
  t.equal((await replica.call('HEAD', LATEST, { token })).status, 200, 'a HEAD takes no place')
  socket.destroy()
  await replica.lines.terminalOf('slot-1')
  const served = await replica.call('GET', LATEST, { token, headers: { range: 'bytes=0-0' } })
  t.equal(served.status, 206)
})

/** The last test: it stops the service, so that every line is out. */
t.test('every download ended in one line and the counter equals the completed rows', async (t) => {
  const { rows } = await db.query(`
    select b.build_type || ' ' || source as cell, count(*)::int as n
    from apk_download_events join apk_builds b using (build_id) where completed group by 1`)
  const completed = Object.fromEntries(rows.map(({ cell, n }) => [cell, n]))
  t.same(await counterOf(service), completed)
  t.equal(await service.stop(), 0)
  const open = await db.query('select 1 from apk_download_events where ended_at is null')
  t.equal(open.rowCount, 0, 'no row is left open')
  for (const id of asked) {
    const lines = service.lines.all.filter((line) => line['request_id'] === id)
    const events = lines.map((line) => line.event).filter((event) => event !== 'sec.token.expired')
    t.match(events, [id.startsWith('head') ? 'http.request' : /^apk\.download(\.fail)?$/], id)
    t.equal(events.length, 1, id)
  }
})
