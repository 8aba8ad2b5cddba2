/** A flood of faults: at most 10 `http.error` lines a second of one code, and none uncounted. */
import t from 'tap'
import { createErrorLimit } from '../../src/http/error-limit.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

t.test('of each code ten lines a second; the next one says how many were left out', async (t) => {
  let atMs = 0
  const limit = createErrorLimit(() => atMs)
  const ask = (code: string, times: number) => Array.from({ length: times }, () => limit(code))
  t.same(ask('overloaded', 10), Array(10).fill(0))
  t.same(ask('overloaded', 7), Array(7).fill(undefined))
  t.same(ask('internal', 1), [0], 'another code has its own room')
  atMs = 999
  t.same(ask('overloaded', 1), [undefined])
  atMs = 1000
  t.same(ask('overloaded', 11), [8, ...Array(9).fill(0), undefined])
  atMs = 60_000
  t.same(ask('overloaded', 2), [1, 0])
})

t.test('lines and what they count are the requests that failed', async (t) => {
  const service = await startService(t)
  const db = await connect(t, service.databaseUrl)
  await db.query('alter table audit_log rename to audit_log_away')
  const fail = () => service.call('GET', '/admin/audit')
  await Promise.all(Array.from({ length: 40 }, fail))
  let failures = 40
  const countOf = (line: Readonly<Record<string, unknown>>) => Number(line['suppressed'] ?? 0)
  for (;;) {
    const { requestId } = await fail()
    failures++
    const fence = await service.call('GET', '/v1/nowhere')
    await service.lines.terminalOf(fence.requestId)
    const lines = service.lines.of('http.error')
    const left = lines.reduce((sum, line) => sum + countOf(line), 0)
    const isWritten = lines.at(-1)?.['request_id'] === requestId
    if (!isWritten || left === 0) continue
    t.equal(lines.length + left, failures)
    t.ok(lines.every((line) => !('suppressed' in line) || countOf(line) > 0))
    break
  }
  const { text } = await service.call('GET', '/metrics')
  t.match(text, `{route="/admin/audit",method="GET",status_code="5xx"} ${failures}\n`)
})
