/** FCM and the token endpoint through a proxy: a small one of ours that can be watched and killed, and tinyproxy. */
import { spawn, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { connect, createServer as createTcpServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { createPost } from '../../src/push/bounded-post.ts'
import { readBody } from '../../src/push/fcm-response.ts'
import { isExcepted } from '../../src/push/outbound-proxy.ts'
import { freePort, listen } from '../../testkit/listen.ts'
import { until } from '../../testkit/until.ts'
import { listenFor } from '../helpers/listen.ts'
import { type Running, startService } from '../helpers/service.ts'

const PASSWORD = 'proxy-p@ss-Qd8vXr2kWz9mBt4s'
/** tinyproxy takes no @ in it. */
const TINY_PASSWORD = 'proxy-pass-Qd8vXr2kWz9mBt4s'
const CREDENTIALS = `fleet:${encodeURIComponent(PASSWORD)}`
const BASIC = `Basic ${Buffer.from(`fleet:${PASSWORD}`).toString('base64')}`

t.test('hosts that NO_PROXY excepts', async (t) => {
  const cases: [entry: string, url: string, isExcepted: boolean][] = [
    ['*', 'https://fcm.googleapis.com', true],
    ['googleapis.com', 'https://fcm.googleapis.com', true],
    ['.googleapis.com', 'https://fcm.googleapis.com', true],
    ['*.googleapis.com', 'https://fcm.googleapis.com', true],
    ['*.com:8443', 'https://fcm.googleapis.com', false],
    ['FCM.googleapis.com', 'https://fcm.googleapis.com', true],
    ['apis.com', 'https://fcm.googleapis.com', false],
    ['fcm.googleapis.com:443', 'https://fcm.googleapis.com', true],
    ['fcm.googleapis.com:8443', 'https://fcm.googleapis.com', false],
    ['localhost:8443', 'https://localhost:8443', true],
    ['127.0.0.1', 'https://127.0.0.1:5', true],
    ['::1', 'https://[::1]:5', true],
    ['[::1]:5', 'https://[::1]:5', true],
    ['', 'https://fcm.googleapis.com', false],
    ['.', 'https://fcm.googleapis.com', false],
  ]
  for (const [entry, url, expected] of cases) {
    const proxy = { url: 'http://proxy:3128', except: ['other.example', entry] }
    t.equal(isExcepted(proxy, new URL(url)), expected, `${entry} ${url}`)
  }
})

const OPENED = 'HTTP/1.1 200 Connection established\r\n\r\n'
const UNAUTHORIZED = `HTTP/1.1 407 Unauthorized\r\nproxy-authenticate: Basic realm="${PASSWORD}"\r\ncontent-length: 999999\r\n\r\nbody`

function* endlessHead() {
  yield 'HTTP/1.1 200 OK\r\n'
  for (;;) yield `x-${'a'.repeat(1_000)}: b\r\n`
}

/** Proxies by what they do once they are asked for a tunnel, and what the error says. */
const HOSTILE: readonly [how: string, answer: (client: Socket) => unknown, says: RegExp][] = [
  ['hangs', () => {}, /proxy 127\S+: it did not answer CONNECT within 2000 ms/],
  ['ends', (client) => client.end(), /proxy 127\S+: socket hang up/],
  ['resets', (client) => client.resetAndDestroy(), /proxy 127\S+: .*(ECONNRESET|hang up)/],
  ['asks for credentials', (client) => client.write(UNAUTHORIZED), /proxy 127\S+: .* with 407/],
  ['is early', (client) => client.write('HTTP/1.1 100 Continue\r\n\r\n'), /proxy 127\S+: .* 100/],
  ['is no proxy', (client) => client.write('\x16\x03\x01\r\n\r\n'), /proxy 127\S+: Parse Error/],
  [
    'has no end',
    (client) => Readable.from(endlessHead()).pipe(client),
    /proxy 127\S+: .*overflow/i,
  ],
  ['is silent in the tunnel', (client) => client.write(OPENED), /no answer within 2000 ms/],
  ['garbles the tunnel', (client) => client.write(`${OPENED}\x16garbage`), /./],
]

t.test('a proxy that opens no tunnel: the reason names it, nothing is left open', async (t) => {
  for (const [how, answer, says] of HOSTILE) {
    const open = new Set<Socket>()
    const server = createTcpServer((client) => {
      open.add(client)
      client.on('error', () => {}).on('close', () => open.delete(client))
      client.once('data', () => answer(client))
    })
    const host = `127.0.0.1:${await listenFor(t, server)}`
    const proxy = { url: `http://${CREDENTIALS}@${host}`, except: [] }
    const post = createPost('https://fcm.invalid/', { maxSockets: 2, timeoutMs: 2_000, proxy })
    const asked = await Promise.allSettled([1, 2, 3].map(() => post({}, 'body', readBody)))
    for (const { status, reason } of asked as PromiseRejectedResult[]) {
      t.equal(status, 'rejected', how)
      t.match(String(reason), says, how)
      t.notMatch(inspect(reason, { depth: 9 }), new RegExp(`${PASSWORD}|${BASIC.slice(6)}`), how)
    }
    await until(() => open.size === 0)
  }
})

/** false: all are installed. */
function missing(...programs: readonly string[]): string | false {
  const not = programs.filter((name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0)
  return (
    not.length > 0 && `needs ${not.join(', ')}: apt-get install openssl tinyproxy (.ci/run does)`
  )
}

const skip = missing('openssl')

/** A CA-less certificate for localhost; its path is for NODE_EXTRA_CA_CERTS. */
function certificate(t: Test) {
  const [key, cert] = [join(t.testdirName, 'key.pem'), join(t.testdirName, 'cert.pem')]
  t.testdir({})
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
  const subject = ['-nodes', '-days', '2', '-subj', '/CN=localhost']
  const names = ['-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert]
  const { status, stderr } = spawnSync('openssl', [...request, ...subject, ...names])
  if (status !== 0) throw new Error(String(stderr))
  return { path: cert, tls: { key: readFileSync(key), cert: readFileSync(cert) } }
}

/** CONNECT, with the credentials it got. */
async function startProxy(port = 0) {
  const seen: (string | undefined)[] = []
  const server: Server = createServer()
  server.on('connect', (request: IncomingMessage, client) => {
    seen.push(request.headers['proxy-authorization'])
    const [host = '', toPort] = (request.url ?? '').split(':')
    const upstream = connect(Number(toPort), host, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      upstream.pipe(client).pipe(upstream)
    })
    for (const socket of [upstream, client]) {
      socket.on('error', () => {})
      socket.on('close', () => [upstream, client].map((each) => each.destroy()))
      sockets.add(socket)
    }
  })
  const sockets = new Set<{ destroy(): unknown }>()
  const url = `127.0.0.1:${await listen(server, port)}`
  const close = () => {
    for (const socket of sockets) socket.destroy()
    server.closeAllConnections()
    server.close()
  }
  return { url, seen, close }
}

const settingsOf = (fcm: FakeFcm, ca: string, proxy: string) => ({
  ...pushSettings(fcm),
  NODE_EXTRA_CA_CERTS: ca,
  HTTPS_PROXY: proxy,
  FCM_RETRY_BASE_MS: '1',
  FCM_TIMEOUT_MS: '5000',
})

async function push(service: Running, id: string) {
  const body = { alias: 'P1', action: 'ping', request_id: id }
  return (await service.call('POST', '/admin/command?wait_ms=10000', { body })).body
}

/** Of the first attempt, once it is recorded, a little behind its line. */
async function reasonOf(service: Running, id: string): Promise<string> {
  const timeline = async () => (await service.call('GET', `/admin/commands/${id}`)).body.timeline
  await until(async () => (await timeline()).length > 1)
  return (await timeline())[1].detail.reason
}

function nothingLeaked(t: Test, service: Running): void {
  const written =
    service.lines.all.map((line) => JSON.stringify(line)).join('\n') + service.stderr()
  const tiny = Buffer.from(`fleet:${TINY_PASSWORD}`).toString('base64')
  const secrets = [PASSWORD, encodeURIComponent(PASSWORD), BASIC.slice(6), TINY_PASSWORD, tiny]
  for (const secret of secrets) {
    t.notOk(written.includes(secret), 'no credential in a line')
  }
}

t.test('through a proxy, past it, and while it is dead', { skip }, async (t) => {
  const { path, tls } = certificate(t)
  const fcm = await startFakeFcm({ tls })
  t.teardown(() => fcm.close())
  fcm.register('push-1', () => {})
  let proxy = await startProxy()
  t.teardown(() => proxy.close())
  const env = settingsOf(fcm, path, `http://${CREDENTIALS}@${proxy.url}`)
  const service = await startService(t, { env })
  await service.enroll('P1', { fcm_token: 'push-1' })
  t.match(await push(service, 'through'), { push: { state: 'sent', fcm_http_code: 200 } })
  t.same(proxy.seen, [BASIC, BASIC], 'the token endpoint and FCM, a tunnel each')
  const config = service.lines.of('service.start')[0]?.['config']
  t.match(config, { https_proxy: proxy.url })

  proxy.close()
  const isFirst = (line: { readonly event: string }) =>
    line.event === 'dispatch.fail' && Reflect.get(line, 'request_id') === 'dead'
  const failing = service.lines.waitFor(isFirst)
  const accepted = push(service, 'dead')
  const line = await failing
  t.match(line, { fcm_http_code: null, fcm_status: 'NETWORK', push_kind: 'token' })
  t.ok(Number(line['dispatch_latency_ms']) < 5_000, 'refused is no timeout')
  const refused = `FCM is not reachable: proxy ${proxy.url}: connect ECONNREFUSED ${proxy.url}`
  t.equal(await reasonOf(service, 'dead'), refused)
  proxy = await startProxy(Number(proxy.url.split(':')[1]))
  await accepted
  await until(async () => {
    const { push } = (await service.call('GET', '/admin/commands/dead')).body
    return push.state === 'sent'
  })
  nothingLeaked(t, service)

  const before = proxy.seen.length
  const past = await startService(t, { env: { ...env, NO_PROXY: 'localhost' } })
  await past.enroll('P1', { fcm_token: 'push-1' })
  t.match(await push(past, 'past'), { push: { state: 'sent' } })
  t.equal(proxy.seen.length, before)
})

const skipTinyproxy = missing('openssl', 'tinyproxy')

t.test(
  'through tinyproxy, with its credentials and without',
  { skip: skipTinyproxy },
  async (t) => {
    const { path, tls } = certificate(t)
    const fcm = await startFakeFcm({ tls })
    t.teardown(() => fcm.close())
    fcm.register('push-1', () => {})
    const port = await freePort()
    const file = join(t.testdirName, 'tinyproxy.conf')
    const user = `BasicAuth fleet ${TINY_PASSWORD}`
    writeFileSync(
      file,
      `Port ${port}\nListen 127.0.0.1\nTimeout 60\n${user}\nConnectPort ${new URL(fcm.baseUrl).port}\n`,
    )
    const tinyproxy = spawn('tinyproxy', ['-d', '-c', file], { stdio: 'ignore' })
    t.teardown(() => tinyproxy.kill('SIGKILL'))
    await until(
      () =>
        new Promise<boolean>((resolve) => {
          const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () =>
            resolve(false),
          )
          socket.unref()
          socket.on('connect', () => socket.destroy())
        }),
    )
    const start = async (credentials: string) => {
      const env = settingsOf(fcm, path, `http://${credentials}127.0.0.1:${port}`)
      const service = await startService(t, { env })
      await service.enroll('P1', { fcm_token: 'push-1' })
      return service
    }
    const service = await start(`fleet:${TINY_PASSWORD}@`)
    t.match(await push(service, 'through'), { push: { state: 'sent', fcm_http_code: 200 } })
    nothingLeaked(t, service)

    const stranger = await start('')
    const fails = stranger.lines.waitFor(({ event }) => event === 'dispatch.fail')
    void push(stranger, 'refused')
    t.match(await fails, { fcm_http_code: null, fcm_status: 'NETWORK' })
    t.match(
      await reasonOf(stranger, 'refused'),
      /token endpoint localhost:\d+ is not reachable \(proxy .*: it answered CONNECT with 407\)/,
    )
  },
)
