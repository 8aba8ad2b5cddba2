/** Floods: of one code at most 10 `http.error` and 50 anonymous refusals a second have a line, and none is uncounted. */
import t, { type Test } from 'tap'
import { writeLine, writeRefusal } from '../../src/http/request-lines.ts'
import { newContext } from '../../src/http/route.ts'
import type { RequestLog } from '../../src/telemetry/log/log.ts'
import type { LogLine } from '../../testkit/log-book.ts'
import type { CallOptions } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { requestsOf } from '../helpers/lines.ts'
import { head, openRaw } from '../helpers/raw.ts'
import { type Running, startService } from '../helpers/service.ts'

t.test(
  'an anonymous request that we failed is within the limit of errors, from 500 on',
  async (t) => {
    const limits: [kind: string, mostPerS: number][] = []
    const log = {
      write: () => {},
      writeLimited: (kind: string, mostPerS: number) => void limits.push([kind, mostPerS]),
    }
    const caller = newContext('r', '/v1/apk/download-latest', false, null, null)
    for (const [code, statusCode] of [
      ['client_closed', 499],
      ['internal', 500],
      ['db_unavailable', 503],
    ] as const) {
      const line = () => t.fail('made a line that nobody writes')
      const ending = { statusCode, latencyMs: 1 }
      writeRefusal(log, { code, caller, ending, line: () => line() as never })
    }
    t.same(limits, [
      ['client_closed', 50],
      ['internal', 10],
      ['db_unavailable', 10],
    ])
  },
)

t.test('who sends a dead credential is anonymous for the limit of lines', async (t) => {
  const line = { event: 'register.fail', fields: { token_id: 'a1b2', result: null } } as const
  const of = (code: string, caller: object) => {
    const kinds: string[] = []
    const isAnonymous: (boolean | undefined)[] = []
    const log: RequestLog = {
      write: (_line, _caller, _ending, cause) => void isAnonymous.push(cause?.isAnonymous),
      writeLimited(kind, _mostPerS, write) {
        kinds.push(kind)
        write(0)
      },
    }
    const context = { ...newContext('r', '/v1/register', false, null, null), ...caller }
    const ending = { statusCode: 401, latencyMs: 1 }
    writeRefusal(log, { code, caller: context, ending, line: () => line, beside: line })
    return { kinds, isAnonymous }
  }
  const [token, device] = [{ tokenId: 'a1b2' }, { deviceId: 'd' }]
  for (const code of ['token_expired', 'token_revoked', 'token_exhausted']) {
    t.same(of(code, token), { kinds: [code], isAnonymous: [true, true] })
  }
  for (const code of ['token_superseded', 'device_deleted']) {
    t.same(of(code, device), { kinds: [code], isAnonymous: [true, true] })
    t.same(of(code, { admin: 'tester', ...device }), { kinds: [], isAnonymous: [false, false] })
  }
  t.same(of('invalid_field', token), { kinds: [], isAnonymous: [false, false] })
  const dead = { ...token, isTokenDead: true }
  for (const code of ['invalid_field', 'alias_mismatch']) {
    t.same(of(code, dead), { kinds: [code], isAnonymous: [true, true] })
  }
  t.same(of('alias_taken', { ...dead, ...device }), { kinds: [], isAnonymous: [false, false] })
  t.same(of('signature_invalid', device), { kinds: [], isAnonymous: [false, false] })
})

t.test('so is who sends it, for the line beside the one that ends a request', async (t) => {
  const line = { event: 'register.request', fields: { token_id: 'a1b2', result: null } } as const
  const written: unknown[] = []
  const log: RequestLog = {
    write: (_line, _caller, ending, cause) => void written.push([ending, cause]),
    writeLimited: (kind, mostPerS, write) => {
      written.push([kind, mostPerS])
      write(7)
    },
  }
  const caller = newContext('r', '/v1/register', false, null, null)
  const ending = { statusCode: 200, latencyMs: 1 }
  writeLine(log, line, { ...caller, tokenId: 'a1b2', isTokenDead: true })
  writeLine(log, line, caller, ending)
  writeLine(log, line, { ...caller, tokenId: 'a1b2' })
  t.same(written, [
    ['register.request', 50],
    [undefined, { isAnonymous: true, suppressed: 7 }],
    [ending, { isAnonymous: true, suppressed: 0 }],
    [undefined, undefined],
  ])
})

/** `suppressed` is there only where there is something to count. */
const hasRightCount = (line: LogLine) => !('suppressed' in line) || Number(line['suppressed']) > 0

/**
 * At most so many a second since then. Not by the lines' own times: a process that is held up between the limit and the
 * line writes a later one. That no second has more is shown above.
 */
function isWithin(most: number, lines: readonly LogLine[], sinceMs: number): boolean {
  const seconds = Math.floor((performance.now() - sinceMs) / 1_000)
  return lines.length <= most * (seconds + 1)
}

const allOver = async (lines: Running['lines'], isOver: () => boolean, what: string) =>
  void (await lines.waitFor(isOver, what))

t.test('lines and what they count are the requests that failed', async (t) => {
  const service = await startService(t)
  const stranger = () =>
    service.call('POST', '/v1/heartbeat', { token: `dt_${'a'.repeat(43)}`, body: {} })
  const sinceMs = performance.now()
  const responses = await Promise.all(Array.from({ length: 30 }, stranger))
  t.ok(
    responses.every(({ body }) => body.code === 'not_provisioned'),
    'before the first enrollment',
  )
  const errors = () => service.lines.of('http.error')
  await allOver(service.lines, () => requestsOf(errors()) >= responses.length, 'each or its count')
  t.equal(service.lines.of('device.unknown_to_database').length, errors().length)
  t.ok(isWithin(10, service.lines.of('device.unknown_to_database'), sinceMs), 'beside them, as few')

  const db = await connect(t, service.databaseUrl)
  await db.query('alter table audit_log rename to audit_log_away')
  const fail = () => service.call('GET', '/admin/audit')
  const failures = 40
  const failedSinceMs = performance.now()
  await Promise.all(Array.from({ length: failures }, fail))
  const written = () => service.lines.of('http.error').filter(({ error }) => error === 'internal')
  await allOver(service.lines, () => requestsOf(written()) >= failures, 'each or its count')
  t.equal(requestsOf(written()), failures)
  t.ok(isWithin(10, written(), failedSinceMs))
  t.ok(written().every(hasRightCount))
  const { text } = await service.call('GET', '/metrics')
  t.match(text, `{route="/admin/audit",method="GET",status_code="5xx"} ${failures}\n`)
})

/** As it could be, without our tag. */
const UNKNOWN = `et_${'A'.repeat(43)}`

/** What strangers send, and the code that refuses it. */
const STRANGERS: readonly {
  readonly code: string
  readonly ask: readonly [method: string, path: string, options: CallOptions]
}[] = [
  { code: 'not_found', ask: ['GET', '/v1/nowhere', {}] },
  { code: 'method_not_allowed', ask: ['PUT', '/admin/devices', {}] },
  { code: 'unauthenticated', ask: ['POST', '/v1/heartbeat', { token: null, body: {} }] },
  { code: 'token_unknown', ask: ['GET', '/admin/devices', { token: 'nobody' }] },
  {
    code: 'token_unknown',
    ask: ['POST', '/v1/register', { token: UNKNOWN, body: {} }],
  },
  {
    code: 'token_unknown',
    ask: ['GET', '/v1/apk/download-latest', { token: UNKNOWN }],
  },
]
const EACH = 70
const CODES = [...new Set(STRANGERS.map(({ code }) => code)), 'bad_request']

/** All strangers at once, and beside them an admin who errs as often; resolves with the strangers' refusals by code. */
async function flood(t: Test, service: Running): Promise<Map<string, number>> {
  const expected = new Map<string, number>()
  const came = (code: string) => expected.set(code, (expected.get(code) ?? 0) + 1)
  const raw = Array.from({ length: EACH }, async () => {
    const connection = await openRaw(t, service.origin)
    connection.write('no HTTP\r\n\r\n')
    t.equal((await connection.answer()).status, 400)
    came('bad_request')
  })
  await Promise.all([
    ...raw,
    ...STRANGERS.flatMap(({ code, ask }) =>
      Array.from({ length: EACH }, async () => {
        const response = await service.call(...ask)
        // Unknown enrollment tokens share a short queue.
        if (![code, 'overloaded'].includes(response.body.code)) throw new Error(response.text)
        came(response.body.code)
      }),
    ),
    ...Array.from({ length: EACH }, async () => {
      const response = await service.call('GET', '/admin/audit?limit=none')
      t.equal(response.body.code, 'invalid_field')
    }),
  ])
  return expected
}

/** By the code that a line is about. */
const CODE_OF: Readonly<Record<string, string>> = {
  missing: 'unauthenticated',
  unknown: 'token_unknown',
}
function codeOf(line: LogLine): string {
  const word = String(line['reason'] ?? line['result'] ?? line['error'])
  return CODE_OF[word] ?? word
}

function endsOf({ lines }: Running, code: string): readonly LogLine[] {
  return lines.all.filter((line) => Number(line['status_code']) >= 400 && codeOf(line) === code)
}

t.test('a flood of strangers: 50 lines a second of each code, and the rest counted', async (t) => {
  const service = await startService(t)
  await service.enroll('D01') // before that, no token is called unknown
  const sinceMs = performance.now()
  const expected = await flood(t, service)
  for (const code of CODES) t.ok(expected.has(code), code)
  for (const [code, requests] of expected) {
    await allOver(service.lines, () => requestsOf(endsOf(service, code)) >= requests, code)
    const ends = endsOf(service, code)
    t.equal(requestsOf(ends), requests, `${code}: lines and what they count`)
    t.ok(isWithin(code === 'overloaded' ? 10 : 50, ends, sinceMs), `${code}: ${ends.length} lines`)
    t.ok(ends.every(hasRightCount))
    const counting = ends.filter((line) => 'suppressed' in line)
    t.ok(counting.every((line) => Object.keys(line).at(-1) === 'suppressed'))
  }
  t.equal(
    service.lines.of('register.request').length,
    1,
    'only the phone’s: a guard refuses others',
  )
  const beside = service.lines.all.filter(
    ({ event, status_code: status }) => event === 'sec.token.expired' && status === null,
  )
  const fails = ['register.fail', 'apk.download.fail'].flatMap((name) => service.lines.of(name))
  const denied = fails.filter((line) => codeOf(line) === 'token_unknown')
  t.equal(beside.length, denied.length, 'a line beside another is written with it, or not')

  const proven = endsOf(service, 'invalid_field')
  t.equal(proven.length, EACH, 'whoever proves who they are has a line each')
  t.ok(proven.every((line) => !('suppressed' in line) && line['admin'] === 'tester'))

  const { text } = await service.call('GET', '/metrics')
  const counted = text.matchAll(/^http_requests_total\{.*status_code="4xx"\} (\d+)$/gm)
  expected.delete('overloaded')
  const total = [...expected.values()].reduce((sum, count) => sum + count, EACH)
  t.equal(
    [...counted].reduce((sum, [, count]) => sum + Number(count), 0),
    total,
    'all in /metrics',
  )
})

t.test('a stop writes what was held back, before its last line', async (t) => {
  const service = await startService(t)
  const requests = 200
  const connections = await Promise.all(
    Array.from({ length: 20 }, () => openRaw(t, service.origin)),
  )
  await Promise.all(
    connections.map(async (connection) => {
      connection.write(head('GET /nowhere HTTP/1.1').repeat(requests / 20))
      await connection.answer(requests / 20)
    }),
  )
  t.equal(await service.stop(), 0)
  t.equal(requestsOf(endsOf(service, 'not_found')), requests)
  t.equal(service.lines.all.at(-1)?.event, 'service.stop')
})

t.test('what the level keeps out carries no count of what it lets through', async (t) => {
  const service = await startService(t)
  const ask = (path: string) => service.call('POST', path, { body: {} })
  const requests = 60
  for (const paths of [
    ['/admin/devices', '/healthz'],
    ['/healthz', '/admin/devices'],
  ]) {
    for (const path of paths) await Promise.all(Array.from({ length: requests }, () => ask(path)))
  }
  await allOver(
    service.lines,
    () => requestsOf(endsOf(service, 'method_not_allowed')) >= 2 * requests,
    'each or its count',
  )
  t.equal(requestsOf(endsOf(service, 'method_not_allowed')), 2 * requests)
})
