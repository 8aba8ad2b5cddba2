/**
 * Admin routes refuse what they do not know, and do nothing: a filter or an option that is misspelt, given twice, in the
 * wrong half of the request or of another route, and a body where none is taken. Devices' routes ignore it.
 */
import t, { type Test } from 'tap'
import { makeApk, simulationKey } from '../../sim/apk.ts'
import { repeatedName } from '../../src/http/known-names.ts'
import { nearest } from '../../src/lib/nearest.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { head, openRaw, sendRaw } from '../helpers/raw.ts'
import { ADMIN, startService } from '../helpers/service.ts'

const ENROLLER = 'enroller-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const ROUTES = ROUTE_LIST.flatMap((route) =>
  route.guard === 'admin' && route.takes !== 'anything' ? [{ ...route, takes: route.takes }] : [],
)
const service = await startService(t, {
  env: { ADMIN_TOKENS: `tester=${ADMIN},enroller:enroll=${ENROLLER}` },
})
const db = await connect(t, service.databaseUrl)
const { deviceId, token, enrollmentToken } = await service.enroll('D01')
const doomed = await service.enroll('D02')
const issued = await service.call('POST', '/v1/enroll-tokens', { body: { aliases: ['E1', 'E2'] } })
const queued = { alias: 'D01', action: 'ping', request_id: 'c1' }
await service.call('POST', '/admin/command?wait_ms=0', { body: queued })
const TOMORROW = new Date(Date.now() + 86_400_000).toISOString()
const job = { job_id: 'j0', where: 'alias:D01', action: 'ping', not_before: TOMORROW }
await service.call('POST', '/admin/jobs', { body: job })
const APK = makeApk({ seed: 'strict', versionCode: 2, versionName: '1.2' })
const published = { raw: makeApk({ seed: 'first' }) }
await service.call('PUT', '/admin/apk/builds/b1?version_code=1', published)
const cursorOf = async (path: string) =>
  String((await service.call('GET', `${path}?limit=1`)).body.next_cursor)

interface Request {
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: Readonly<Record<string, unknown>>
  readonly raw?: Uint8Array
}

/** Requests that are in order, by route; those of one route name all that it knows. */
const GOOD: Readonly<Record<string, readonly Request[]>> = {
  'GET /v1/enroll-tokens': [
    {
      path: '/v1/enroll-tokens',
      query: {
        status: 'active',
        alias: 'E1',
        limit: '1',
        cursor: await cursorOf('/v1/enroll-tokens'),
      },
    },
  ],
  'GET /admin/commands': [
    {
      path: '/admin/commands',
      query: { device_id: deviceId, status: 'queued', action: 'ping', limit: '1' },
    },
    { path: '/admin/commands', query: { alias: 'D01', outcome: 'success' } },
  ],
  'GET /admin/commands/{request_id}': [
    { path: '/admin/commands/c1', query: { wait_ms: '0', wait_for: 'push' } },
  ],
  'GET /admin/devices': [
    {
      path: '/admin/devices',
      query: {
        where: 'alias:D*',
        order: 'created',
        alias: 'D01',
        offline_for_s: '0',
        limit: '1',
        cursor: await cursorOf('/admin/devices'),
      },
    },
  ],
  'GET /admin/devices/{device_id}/heartbeats': [
    {
      path: `/admin/devices/${deviceId}/heartbeats`,
      query: {
        since: '2026-01-31T09:15:00Z',
        until: '2126-01-31T09:15:00Z',
        step_s: '3600',
        limit: '1',
      },
    },
  ],
  'GET /admin/fleet': [{ path: '/admin/fleet', query: { where: 'alias:D*' } }],
  'GET /admin/devices/{device_id}': [{ path: `/admin/devices/${deviceId}` }],
  'GET /admin/apk/builds': [
    { path: '/admin/apk/builds', query: { build_type: 'debug', limit: '1' } },
  ],
  'GET /admin/apk/builds/{build_id}/download': [{ path: '/admin/apk/builds/b1/download' }],
  'GET /admin/audit': [
    {
      path: '/admin/audit',
      query: {
        since: '2026-01-31T09:15:00Z',
        until: '2126-01-31T09:15:00Z',
        admin: 'tester',
        what: 'device.created',
        subject: deviceId,
        alias: 'D01',
        limit: '1',
        cursor: await cursorOf('/admin/audit'),
      },
    },
  ],
  'GET /admin/events': [
    {
      path: '/admin/events',
      query: {
        after: String((await service.call('GET', '/admin/events')).body.cursor),
        types: 'device.enrolled,token.created',
        wait_ms: '0',
        limit: '1',
      },
    },
  ],
  'POST /v1/enroll-tokens': [
    {
      path: '/v1/enroll-tokens',
      body: { aliases: ['E3'], expires_in_sec: 60, uses_allowed: 2, note: 'n', labels: { a: '1' } },
    },
  ],
  'POST /admin/command': [
    {
      path: '/admin/command',
      query: { wait_ms: '0', wait_for: 'push' },
      body: { alias: 'D01', action: 'ping', params: { a: '1' }, request_id: 'c2', ttl_s: 60 },
    },
    {
      path: '/admin/command',
      query: { wait_ms: '0' },
      body: { device_id: deviceId, action: 'ping' },
    },
  ],
  'PATCH /admin/devices/{device_id}': [
    { path: `/admin/devices/${deviceId}`, body: { labels: { site: 'zrh', old: null } } },
  ],
  'POST /admin/devices/labels': [
    {
      path: '/admin/devices/labels',
      body: { where: 'alias:D01', labels: { a: '1' }, expect_devices: 1, dry_run: true },
    },
  ],
  'POST /admin/commands': [
    {
      path: '/admin/commands',
      query: { wait_ms: '0', wait_for: 'end' },
      body: { alias: 'D01', action: 'ping', params: { a: '1' }, request_id: 'c3', ttl_s: 60 },
    },
    {
      path: '/admin/commands',
      query: { wait_ms: '0' },
      body: { device_id: deviceId, action: 'ping' },
    },
  ],
  'GET /openapi.json': [{ path: '/openapi.json' }],
  'POST /admin/jobs': [
    {
      path: '/admin/jobs',
      body: {
        job_id: 'j1',
        where: 'alias:D01',
        action: 'ping',
        params: { a: '1' },
        ttl_s: 60,
        per_minute: 600,
        max_failed_pct: 50,
        min_results: 1,
        not_before: TOMORROW,
        expect_devices: 1,
        dry_run: true,
        note: 'n',
      },
    },
  ],
  'GET /admin/jobs': [{ path: '/admin/jobs', query: { state: 'running', limit: '1' } }],
  'GET /admin/jobs/{job_id}': [{ path: '/admin/jobs/j0', query: { wait_ms: '0' } }],
  'GET /admin/jobs/{job_id}/commands': [
    {
      path: '/admin/jobs/j0/commands',
      query: { status: 'completed', outcome: 'success', limit: '1' },
    },
    { path: '/admin/jobs/j0/commands', query: { status: 'expired', outcome: 'success' } }, // a late one
  ],
  'POST /admin/jobs/{job_id}/pause': [{ path: '/admin/jobs/j0/pause' }],
  'POST /admin/jobs/{job_id}/resume': [{ path: '/admin/jobs/j0/resume' }],
  'POST /admin/jobs/{job_id}/abort': [
    { path: '/admin/jobs/j0/abort', body: { cancel_open: true } },
  ],
  'PUT /admin/apk/builds/{build_id}': [
    {
      path: '/admin/apk/builds/b2',
      query: {
        version_code: '2',
        version_name: '1.2',
        build_type: 'debug',
        git_sha: '0123456789abcdef',
        ci_run_id: 'r1',
        signer_fingerprint: simulationKey().digest,
        accept_signer: simulationKey().digest,
        release: 'staged',
      },
      raw: APK,
    },
  ],
  'DELETE /v1/enroll-tokens/{token_id}': [
    { path: `/v1/enroll-tokens/${issued.body.tokens[0].token_id}` },
  ],
  'DELETE /admin/commands/{request_id}': [{ path: '/admin/commands/c1' }],
  'POST /admin/apk/builds/{build_id}/release': [{ path: '/admin/apk/builds/b1/release' }],
  'DELETE /admin/devices/{device_id}': [
    { path: `/admin/devices/${doomed.deviceId}`, query: { erase: 'false' } },
  ],
  'DELETE /admin/apk/builds/{build_id}': [{ path: '/admin/apk/builds/b1' }],
}
/** No row was there to give one. */
const WITHOUT_CURSOR = [
  'GET /admin/commands',
  'GET /admin/apk/builds',
  'GET /admin/devices/{device_id}/heartbeats',
  'GET /admin/jobs',
  'GET /admin/jobs/{job_id}/commands',
]

function send(
  method: string,
  { path, query = {}, body, raw }: Request,
  more = '',
): Promise<TestResponse> {
  const search = [new URLSearchParams(query).toString(), more].filter((part) => part !== '')
  return service.call(method, search.length === 0 ? path : `${path}?${search.join('&')}`, {
    ...(body !== undefined && { body }),
    ...(raw !== undefined && { raw }),
  })
}

/** Every row of every table. */
async function wholeState(): Promise<unknown> {
  const { rows: tables } = await db.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'public' order by 1",
  )
  const texts: unknown[] = []
  for (const { name } of tables) {
    const { rows } = await db.query(`select t::text as row from "${name}" t order by 1`)
    texts.push([name, rows])
  }
  return texts
}

/** Runs `ask`, which must change no row. */
async function changesNothing(t: Test, ask: () => Promise<void>): Promise<void> {
  const before = await wholeState()
  await ask()
  t.same(await wholeState(), before, 'nothing was done')
}

/** 422 that names `name` and says `hint`. */
function refused(t: Test, response: TestResponse, name: string, hint: string | RegExp): void {
  const { status, body, text } = response
  const isRight = status === 422 && body.code === 'invalid_field' && body.errors[0].field === name
  if (!isRight || !body.detail.match(hint)) t.fail(`${name}: ${hint}: ${status} ${text}`)
  else t.pass(JSON.stringify(body.detail))
}

const MISSPELT: Readonly<Record<string, (name: string, at: number) => string>> = {
  omitted: (name, at) => name.slice(0, at) + name.slice(at + 1),
  doubled: (name, at) => name.slice(0, at) + name.charAt(at) + name.slice(at),
  replaced: (name, at) => `${name.slice(0, at)}x${name.slice(at + 1)}`,
}
const renamed = <V>(all: Readonly<Record<string, V>>, name: string, other: string) =>
  Object.fromEntries(Object.entries(all).map(([key, value]) => [key === name ? other : key, value]))

t.test('the requests below know every admin route and all its names', async (t) => {
  t.same(Object.keys(GOOD).toSorted(), ROUTES.map((r) => `${r.method} ${r.path}`).toSorted())
  for (const { method, path, takes } of ROUTES) {
    const route = `${method} ${path}`
    const asked = GOOD[route] ?? []
    const query = new Set(asked.flatMap((request) => Object.keys(request.query ?? {})))
    if (WITHOUT_CURSOR.includes(route)) query.add('cursor')
    t.same([...query].toSorted(), takes.query.toSorted(), route)
    const fields = new Set(asked.flatMap((request) => Object.keys(request.body ?? {})))
    t.same([...fields].toSorted(), takes.fields.toSorted(), route)
  }
})

t.test('each name with one letter wrong: 422, nothing done, the right one suggested', async (t) => {
  await changesNothing(t, async () => {
    for (const [route, requests] of Object.entries(GOOD)) {
      const [method = ''] = route.split(' ')
      for (const request of requests) {
        const { query = {}, body = {} } = request
        for (const [kind, misspell] of Object.entries(MISSPELT)) {
          for (const name of Object.keys(query)) {
            const wrong = misspell(name, kind.length % name.length)
            const asked = { ...request, query: renamed(query, name, wrong) }
            const response = await send(method, asked)
            refused(
              t,
              response,
              wrong,
              `${wrong}: is no query parameter here. Did you mean ${name}?`,
            )
            if (method === 'GET') t.equal((await send('HEAD', asked)).status, 422, `HEAD ${wrong}`)
          }
          for (const name of Object.keys(body)) {
            const wrong = misspell(name, kind.length % name.length)
            const response = await send(method, { ...request, body: renamed(body, name, wrong) })
            refused(t, response, wrong, `${wrong}: is no field of the body. Did you mean ${name}?`)
          }
        }
      }
    }
  })
})

t.test('wherever the wrong letter is, the right name is the nearest', async (t) => {
  const mistaken: string[] = []
  for (const { method, path, takes } of ROUTES) {
    for (const known of [takes.query, takes.fields]) {
      for (const name of known) {
        for (const misspell of Object.values(MISSPELT)) {
          for (let at = 0; at < name.length; at += 1) {
            const wrong = misspell(name, at)
            if (known.includes(wrong) || nearest(wrong, known) === name) continue
            mistaken.push(`${method} ${path}: ${wrong} is taken for ${nearest(wrong, known)}`)
          }
        }
      }
    }
  }
  t.same(mistaken, [])
})

t.test('each name is read, and none counts twice', async (t) => {
  await changesNothing(t, async () => {
    for (const [route, requests] of Object.entries(GOOD)) {
      const [method = ''] = route.split(' ')
      for (const request of requests) {
        const { path, query = {}, body = {} } = request
        for (const name of Object.keys(query)) {
          const unreadable = { ...request, query: { ...query, [name]: '\0' } }
          refused(t, await send(method, unreadable), name, /./)
          const again = `${encodeURIComponent(name).replace(/^./, hexOf)}=1`
          refused(t, await send(method, request, again), name, 'is given twice')
        }
        for (const name of Object.keys(body)) {
          refused(t, await send(method, { ...request, body: { ...body, [name]: [] } }), name, /./)
          const text = `{"${unicodeOf(name)}":"first",${JSON.stringify(body).slice(1)}`
          const headers = { 'content-type': 'application/json' }
          const twice = await service.call(method, path, { raw: text, headers })
          refused(t, twice, name, 'is given twice')
        }
      }
    }
  })
})

const hexOf = (letter: string) => `%${letter.charCodeAt(0).toString(16)}`
const unicodeOf = (name: string) =>
  `\\u${name.charCodeAt(0).toString(16).padStart(4, '0')}${name.slice(1)}`

t.test('names that no route knows, that another one knows, or that stand elsewhere', async (t) => {
  const devices = (search: string) => service.call('GET', `/admin/devices?${search}`)
  const command = (more: object, search = '') =>
    service.call('POST', `/admin/command?wait_ms=0${search}`, {
      body: { alias: 'D01', action: 'ping', ...more },
    })
  await changesNothing(t, async () => {
    for (const [search, name, hint] of [
      ['alias_prefix=STORE-', 'alias_prefix', 'Did you mean alias?'],
      ['offline_for=1800', 'offline_for', 'Did you mean offline_for_s?'],
      ['Limit=5', 'Limit', 'Did you mean limit?'],
      ['ALIAS=D01', 'ALIAS', 'Did you mean alias?'],
      ['%20alias=D01', ' alias', 'Did you mean alias?'],
      ['alias+=D01', 'alias ', 'Did you mean alias?'],
      ['alias[]=D01', 'alias[]', 'Did you mean alias?'],
      ['alias%00=D01', 'alias\0', 'Did you mean alias?'],
      ['status=queued', 'status', 'Known are alias, offline_for_s, where, order, limit, cursor'],
      ['=D01', '(empty)', 'Known are alias'],
      ['__proto__=1', '__proto__', 'Known are alias'],
      ['constructor=1', 'constructor', 'Known are'],
      ['toString', 'toString', 'Known are'],
      [`${'q'.repeat(5_000)}=1`, 'q'.repeat(64), 'Known are'],
      ['%ff=1', '\ufffd', 'Known are'],
      ['alias=D01;limit=1', 'alias', 'separate parameters with &'],
      ['limit=1;alias=D01', 'limit', 'separate parameters with &'],
      [';limit=1', ';limit', 'separate parameters with &'],
      ['alias=D01&limit=1&alias=D01', 'alias', 'is given twice'],
      ['where=-label:site%3DZ%FCrich', 'where', 'is not UTF-8'],
    ] as const) {
      refused(t, await devices(search), name, hint)
    }
    const dryRun = await command({ tll_s: 60, dry_run: true })
    refused(t, dryRun, 'tll_s', 'Did you mean ttl_s?')
    const known = 'Known are device_id, alias, action, params, request_id, ttl_s'
    refused(t, await command({ dry_run: true }), 'dry_run', known)
    refused(t, await command({ wait_ms: 0 }), 'wait_ms', 'It goes into the query')
    refused(t, await command({}, '&ttl_s=60'), 'ttl_s', 'It goes into the body')
    refused(t, await command(JSON.parse('{"__proto__":{}}')), '__proto__', known)
    const none = 'None is taken'
    const cancelling = await service.call('DELETE', '/admin/commands/c1?dry_run=1')
    refused(t, cancelling, 'dry_run', none)
    const deleting = await service.call('DELETE', `/admin/devices/${doomed.deviceId}?dry_run=1`)
    refused(t, deleting, 'dry_run', 'Known are erase')
    const download = await service.call('GET', '/admin/apk/builds/b1/download?build_type=debug')
    refused(t, download, 'build_type', none)
    const upload = '/admin/apk/builds/b9?version_code=9&dry_run=1'
    refused(t, await service.call('PUT', upload, { raw: APK }), 'dry_run', 'Known are version_code')
  })
  t.equal((await devices('')).status, 200)
  t.equal((await devices('&&alias=D01&')).status, 200)
  t.equal((await devices('where=model:%EF%BF%BD')).status, 200, 'U+FFFD itself')
})

t.test('a value that none can have, such as an empty one, is no filter', async (t) => {
  await changesNothing(t, async () => {
    for (const { method, path, takes } of ROUTES) {
      if (method !== 'GET') continue
      for (const request of GOOD[`GET ${path}`] ?? []) {
        for (const name of takes.query) {
          if (name === 'where') continue // the empty text is a selection: every device
          for (const value of ['', ' ', 'null,', 'a*b', 'D01 ']) {
            const query = { ...request.query, [name]: value }
            refused(t, await send('GET', { ...request, query }), name, /must |is not one/)
          }
        }
      }
    }
  })
})

t.test('filters that exclude each other are refused', async (t) => {
  for (const [path, message, queries] of [
    [
      '/admin/commands',
      /^only commands that are completed are searched for /,
      ['status=queued&outcome=success', 'status=expired&outcome=failure'],
    ],
    [
      '/admin/jobs/j0/commands',
      /^only commands that are (completed|failed), expired, cancelled are searched for \w+$/,
      [
        'status=waiting&outcome=success',
        'status=sent&outcome=failure',
        'status=completed&outcome=rejected',
        'status=failed&outcome=success',
      ],
    ],
  ] as const) {
    for (const query of queries) {
      const refused = { status: 422, body: { errors: [{ field: 'outcome', message }] } }
      t.match(await service.call('GET', `${path}?${query}`), refused, query)
    }
  }
  const late = await service.call('GET', '/admin/commands?status=expired&outcome=success')
  t.match(late.body.errors, [{ message: /searched for success; late results are not$/ }])
})

t.test(
  'a build type that is debug or release but for its letters is not taken silently',
  async (t) => {
    const put = (query: string) =>
      service.call('PUT', `/admin/apk/builds/typed?build_type=${query}`, { raw: APK })
    const list = (type: string) => service.call('GET', `/admin/apk/builds?build_type=${type}`)
    for (const [wrong, meant] of [
      ['Debug', 'debug'],
      ['RELEASE', 'release'],
    ] as const) {
      const message = new RegExp(`Did you mean ${meant}\\?`)
      const refused = { status: 422, body: { errors: [{ field: 'build_type', message }] } }
      t.match(await put(wrong), refused)
      t.match(await list(wrong), refused)
      const latest = `/v1/apk/download-latest?build_type=${wrong}`
      t.match(
        await service.call('GET', latest, { token }),
        { status: 404 },
        'phones are told as ever',
      )
    }
    t.match(await put('relase'), { status: 201, body: { warnings: [/If release is meant/] } })
    await db.query(`update apk_builds set build_type = 'Debug' where build_id = 'typed'`)
    t.match((await list('Debug')).body.builds, [{ build_id: 'typed' }], 'of a former release')
    for (const type of 'debugStore qaRelease proRelease minRelease qaDebug prerelease'.split(' ')) {
      await db.query(`update apk_builds set build_type = $1 where build_id = 'typed'`, [type])
      const { status, body } = await put(type)
      t.same({ status, warnings: body.warnings }, { status: 200, warnings: [] }, type)
    }
    await db.query(`update apk_builds set build_type = 'debgu' where build_id = 'typed'`)
    t.match(await put('debgu'), { status: 200, body: { warnings: [/If debug is meant/] } })
  },
)

t.test('a body where none is taken is refused, one of no bytes is none', async (t) => {
  const ask = (method: string, path: string, ...lines: readonly string[]) =>
    head(`${method} ${path} HTTP/1.1`, `Authorization: Bearer ${ADMIN}`, ...lines)
  const body = '{"dry_run":true}'
  await changesNothing(t, async () => {
    for (const [route, [request]] of Object.entries(GOOD)) {
      const [method = ''] = route.split(' ')
      if ((method !== 'GET' && method !== 'DELETE') || request === undefined) continue
      for (const bytes of [
        ask(method, request.path, `Content-Length: ${body.length}`) + body,
        ask(method, request.path, 'Content-Length: 9', 'Expect: 100-continue'),
        `${ask(method, request.path, 'Transfer-Encoding: chunked')}1\r\n{\r\n`,
        ask(method, request.path, 'Transfer-Encoding: chunked', 'Expect: 100-continue'),
      ]) {
        const response = await sendRaw(t, service.origin, bytes)
        const { code, detail, errors } = response.body
        t.match([response.status, code, errors[0].field], [422, 'invalid_field', 'body'], route)
        t.match(detail, 'is not taken here')
      }
    }
  })
  const late = await openRaw(t, service.origin)
  late.write(ask('GET', '/admin/devices', 'Transfer-Encoding: chunked'))
  late.write('0\r\n\r\n')
  t.equal((await late.answer()).status, 200)
  const empty = ask('GET', '/admin/devices', 'Content-Length: 0')
  t.equal((await sendRaw(t, service.origin, empty)).status, 200)
})

t.test('who may not call is told that first', async (t) => {
  await changesNothing(t, async () => {
    for (const [route, [request]] of Object.entries(GOOD)) {
      const [method = ''] = route.split(' ')
      const path = `${request?.path}?dry_run=1`
      const stranger = await service.call(method, path, { token: null })
      t.match(stranger, { status: 401, body: { code: 'unauthenticated' } }, route)
      if (/enroll-tokens|openapi/.test(route)) continue // theirs
      const other = await service.call(method, path, { token: ENROLLER })
      t.match(other, { status: 403, body: { code: 'forbidden' } }, route)
    }
  })
})

t.test('devices, scrapers and probes may say more than is known', async (t) => {
  for (const [method, path, credential, body, status] of [
    ['POST', '/v1/heartbeat?x=1&x=2', token, { status: 'ok', mood: 'fine' }, 200],
    ['POST', '/v1/devices/fcm-token?x=1', token, { fcm_token: 'p', mood: 'fine' }, 200],
    ['POST', '/v1/register?x=1', enrollmentToken, { mood: 'fine' }, 401],
    [
      'POST',
      '/v1/action-result?x=1',
      token,
      { request_id: 'none', outcome: 'ok', mood: 'fine' },
      404,
    ],
    ['GET', '/v1/apk/download-latest?x=1', token, undefined, 200],
    ['GET', '/v1/apk/download-latest?x=1', ADMIN, undefined, 200],
    ['GET', '/metrics?collect[]=x&collect[]=y', ADMIN, undefined, 200],
    ['GET', '/healthz?x=1', null, undefined, 200],
    ['GET', '/readyz?x=1', null, undefined, 200],
  ] as const) {
    const response = await service.call(method, path, {
      token: credential,
      ...(body !== undefined && { body }),
    })
    t.equal(response.status, status, `${method} ${path}`)
  }
})

t.test('a name that stands twice is found at any depth, not in a value', async (t) => {
  for (const [json, found] of [
    ['{}', undefined],
    ['{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}', undefined],
    ['{"a":"a","b":"a:{}","c":["a","a"]}', undefined],
    ['{"a":"\\"a\\":1,\\"a\\":","b":"\\\\"}', undefined],
    ['{"a":1,"a":1}', 'a'],
    ['{"a":1,"b":{},"\\u0061":2}', 'a'],
    ['{"params":{"x":"1","y":"2","x":"3"}}', 'params.x'],
    ['{"a":[{"b":1},{"b":1,"b":2}]}', 'a.b'],
    ['{"":1,"":2}', ''],
    ['{"__proto__":1,"__proto__":2}', '__proto__'],
    ['{"a" : 1 , "b\\\\" : 2 ,\n"a"\t:3}', 'a'],
    [`{"a":${'['.repeat(5_000)}${']'.repeat(5_000)},"b":"${'\\"{'.repeat(5_000)}","a":1}`, 'a'],
  ] as const) {
    t.equal(repeatedName(json), found, json.slice(0, 60))
  }
})

t.test('the same requests, spelt right, are done', async (t) => {
  for (const [route, requests] of Object.entries(GOOD)) {
    const [method = ''] = route.split(' ')
    for (const request of requests) {
      const { status, text } = await send(method, request)
      t.ok(status >= 200 && status < 300, `${route}: ${status} ${status < 300 ? '' : text}`)
    }
  }
})
