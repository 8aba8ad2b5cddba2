/** Method and path → route: the table's own promises, and paths that nobody should send. */
import t from 'tap'
import { Router } from '../../src/router.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'

const ROUTES = [
  { method: 'GET', path: '/' },
  { method: 'GET', path: '/healthz' },
  { method: 'POST', path: '/v1/heartbeat' },
  { method: 'POST', path: '/v1/devices/ack' },
  { method: 'POST', path: '/v1/devices/fcm-token' },
  { method: 'POST', path: '/v1/devices/{device_id}/ack' },
  { method: 'GET', path: '/admin/commands' },
  { method: 'GET', path: '/admin/commands/{request_id}' },
  { method: 'DELETE', path: '/admin/commands/{id}' },
  { method: 'PUT', path: '/admin/apk/builds/{build_id}' },
  { method: 'DELETE', path: '/admin/apk/builds/{build_id}' },
  { method: 'GET', path: '/admin/apk/builds/{build_id}/download' },
] as const
const router = new Router(ROUTES)

t.test('a path finds its route, by method', async (t) => {
  const found = [
    ['GET', '/', '/'],
    ['GET', '/healthz', '/healthz'],
    ['HEAD', '/healthz', '/healthz'],
    ['HEAD', '/admin/commands/c1', '/admin/commands/{request_id}'],
    ['POST', '/v1/heartbeat', '/v1/heartbeat'],
    ['POST', '//v1/heartbeat', '/v1/heartbeat'],
    ['POST', '/v1///heartbeat', '/v1/heartbeat'],
    ['POST', '/v1/devices/ack', '/v1/devices/ack'],
    ['POST', '/v1/devices//ack', '/v1/devices/ack'],
    ['POST', '//v1//devices//fcm-token', '/v1/devices/fcm-token'],
  ] as const
  for (const [method, path, template] of found) {
    const match = router.find(method, path)
    t.equal(match.kind === 'found' && match.route.path, template, `${method} ${path}`)
  }
})

t.test('parameters are decoded and named by the route', async (t) => {
  const params = [
    ['GET', '/admin/commands/c1', { request_id: 'c1' }],
    ['DELETE', '/admin/commands/c1', { id: 'c1' }],
    ['GET', '/admin/commands/a%20b%C3%A9', { request_id: 'a bé' }],
    ['GET', '/admin/commands/a%252Fb', { request_id: 'a%2Fb' }],
    ['GET', '/admin/commands/..', { request_id: '..' }],
    ['GET', '/admin/commands/__proto__', { request_id: '__proto__' }],
    ['POST', '/v1/devices/ack/ack', { device_id: 'ack' }],
    ['POST', '/v1/devices/fcm-token/ack', { device_id: 'fcm-token' }],
    ['POST', '/v1/devices/d1//ack', { device_id: 'd1' }],
    ['GET', '/admin/apk/builds/download/download', { build_id: 'download' }],
    ['GET', '/healthz', {}],
  ] as const
  for (const [method, path, expected] of params) {
    const match = router.find(method, path)
    t.same(match.kind === 'found' && match.params, expected, `${method} ${path}`)
  }
})

t.test('a known path with another method names those that it takes', async (t) => {
  const allowed = [
    ['GET', '/v1/heartbeat', 'POST'],
    ['HEAD', '/v1/heartbeat', 'POST'],
    ['POST', '/healthz', 'GET, HEAD'],
    ['PATCH', '/admin/commands/c1', 'DELETE, GET, HEAD'],
    ['GET', '/admin/apk/builds/b1', 'DELETE, PUT'],
    ['OPTIONS', '//v1/devices/d1/ack', 'POST'],
    ['get', '/healthz', 'GET, HEAD'],
    ['__proto__', '/healthz', 'GET, HEAD'],
    ['', '/healthz', 'GET, HEAD'],
  ] as const
  for (const [method, path, allow] of allowed) {
    const match = router.find(method, path)
    t.equal(match.kind === 'method_not_allowed' && match.allow, allow, `${method} ${path}`)
  }
})

t.test('each path served takes its own methods, and names them for any other', async (t) => {
  const served = new Router(ROUTE_LIST)
  for (const { path } of ROUTE_LIST) {
    const own = new Set<string>(
      ROUTE_LIST.filter((one) => one.path === path).map((one) => one.method),
    )
    if (own.has('GET')) own.add('HEAD')
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'BREW']) {
      const match = served.find(method, path.replace(/\{\w+\}/, 'x1'))
      const expected = own.has(method)
        ? { kind: 'found', route: { path } }
        : { kind: 'method_not_allowed', allow: [...own].sort().join(', ') }
      t.match(match, expected, `${method} ${path}`)
    }
  }
})

t.test('an unknown path finds nothing, whatever the method', async (t) => {
  const unknown = [
    '',
    '*',
    'healthz',
    'http://host/healthz',
    '/nowhere',
    '/v1',
    '/v1/',
    '/v1/devices',
    '/v1/devices/d1',
    '/v1/heartbeat/',
    '/v1/heartbeat/x',
    '/V1/Heartbeat',
    '/v1/heartbeat\0',
    '/v1/heartbeat%00',
    '/admin/commands/',
    '/../healthz',
    '//healthz',
    '//admin/commands',
    '/admin//commands',
    '/admin/commands//c1',
    '/admin/commands/c1//',
    '//admin/apk/builds///b1',
    '/v1//../admin/commands',
    '//v1//..//admin/commands',
    '//v11/heartbeat',
    '//V1/heartbeat',
    '/.//v1/heartbeat',
    '//',
    '/./healthz',
    '/%68ealthz',
    '/%',
    '/%ff',
    '\\healthz',
    '/héalthz',
    '/\u{1f4a9}',
    '/\ud800',
    '/constructor',
    '/__proto__',
  ]
  for (const path of unknown) {
    for (const method of ['GET', 'HEAD', 'POST', 'BREW']) {
      t.equal(router.find(method, path).kind, 'not_found', `${method} ${encodePath(path)}`)
    }
  }
})

/** P: the path. */
const SPELLINGS = [
  ...['/P', '//P', '/.P', '/..P', '/xP', '/x/..P', '/;xP', '*P', ' P', '\\P', '/\\P', '/%2f..P'],
  ...['/v1P', '/v1/P', '/v1/.P', '/v1/..P', '//v1/..P', '//v1//..P', '/v1//..P', '/v1/..;P'],
  ...['/v1/../P', '/v1/%2e%2eP', '/v1%2f..P', 'http:P', 'http://hostP', '//hostP', '/http://hostP'],
  ...['P/', 'P//', 'P/.', 'P;x', 'P#', 'P%20', 'P%00', 'P\\'],
]

t.test('what a proxy guards by its path has no other spelling', async (t) => {
  const served = new Router(ROUTE_LIST)
  for (const path of ['/metrics', '/admin/devices', '/admin/commands/c1']) {
    t.equal(served.find('GET', path).kind, 'found', path)
    const spellings = [
      ...SPELLINGS.map((spelling) => spelling.replace('P', path)),
      ...[
        path.toUpperCase(),
        path.slice(1),
        path.replace(/.$/, '//$&'),
        path.replace(/.$/, '%2f$&'),
      ],
      ...[path.replaceAll('/', '//'), path.replaceAll('/', '\\'), path.replaceAll('/', '%2f')],
      ...[path.replace('a', '%61'), path.replace('m', '%6d'), path.replace('/', '/%2f')],
    ]
    for (const spelling of spellings.filter((other) => other !== path)) {
      const { kind } = served.find('GET', spelling)
      // Another id is still below /admin/, as the proxy sees it.
      const isOtherId = /^\/admin\/\w+\/(?!.*%2f)[^/\\]+$/.test(spelling)
      if (!isOtherId) t.not(kind, 'found', encodePath(spelling))
    }
  }
  for (const id of ['..%2f..%2fv1', '..%2F..%2F..%2Fhealthz', '%2f', 'a%2Fb', '..%5c..%5cv1']) {
    t.equal(served.find('GET', `/admin/devices/${id}`).kind, 'not_found', id)
    t.equal(served.find('POST', `/v1/devices/${id}/ack`).kind, 'not_found', id)
  }
})

t.test('a parameter that is no percent-encoded UTF-8 is a bad path', async (t) => {
  for (const value of ['%', '%f', '%ff', '%c3%28', '%ed%a0%80', 'a%zz']) {
    t.same(router.find('GET', `/admin/commands/${value}`), { kind: 'bad_path' }, value)
  }
})

t.test('a path without end costs nothing and finds nothing', async (t) => {
  for (const path of [
    `/admin/commands/${'a'.repeat(100_000)}`,
    '/'.repeat(100_000),
    `${'/a'.repeat(50_000)}`,
    `/v1/heartbeat${'/'.repeat(100_000)}`,
  ]) {
    t.equal(router.find('GET', path).kind, 'not_found')
  }
})

t.test('no path makes it throw', async (t) => {
  const pieces = ['/', '//', '%', '%2f', '%ff', 'v1', 'devices', 'ack', 'admin', 'commands', '..']
  let asked = 0
  const kinds = new Set<string>()
  // every path of up to four pieces
  const extend = (path: string, depth: number) => {
    kinds.add(router.find('POST', path).kind)
    asked += 1
    if (depth < 4) for (const piece of pieces) extend(path + piece, depth + 1)
  }
  extend('', 0)
  t.equal(asked, 1 + 11 + 11 ** 2 + 11 ** 3 + 11 ** 4)
  t.ok(kinds.has('not_found'))
})

t.test('the same method and path twice is refused when the table is made', async (t) => {
  const twice = [
    { method: 'GET', path: '/a/{x}' },
    { method: 'GET', path: '/a/{y}' },
  ]
  t.throws(() => new Router(twice), { message: 'GET /a/{y} stands twice in the route table' })
})

/** A name that TAP can carry. */
function encodePath(path: string): string {
  return JSON.stringify(path).replaceAll('\\u', 'U+')
}
