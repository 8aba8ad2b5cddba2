/** What DATABASE_URL means, and that `sslmode` does what it says, before a real PostgreSQL behind a line with TLS. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, connect as openLine, type Socket } from 'node:net'
import { join } from 'node:path'
import { TLSSocket, type TlsOptions } from 'node:tls'
import t, { type Test } from 'tap'
import { parseConfig } from '../../src/config/config.ts'
import { isLocal, parseDatabaseUrl, serversOf } from '../../src/db/postgres/database-url.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { connect, createDatabase } from '../helpers/database.ts'

const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

const missing = spawnSync('openssl', ['version']).error !== undefined && 'needs openssl'

t.test('the URL says where the database is', async (t) => {
  const cases: readonly (readonly [string, object])[] = [
    [
      'postgres://u:p@db.example:6432/d',
      { host: 'db.example', port: 6432, user: 'u', password: 'p' },
    ],
    ['postgresql://db.example', { host: 'db.example', port: 5432, user: undefined }],
    ['postgres:///d', { host: 'localhost', database: 'd' }],
    ['postgres://u:a%2Fb$&@/d', { host: 'localhost', user: 'u', password: 'a/b$&', database: 'd' }],
    ['postgres://u:50%off=%C3%BC@h/d', { password: '50%off=ü' }],
    ['postgres://localhost/d?host=db.example&port=6432', { host: 'db.example', port: 6432 }],
    ['postgres://h/d?user=a&password=b%40c', { user: 'a', password: 'b@c' }],
    ['postgres://u@%2Frun%2Fpg/d', { host: '/run/pg', user: 'u', database: 'd' }],
    ['postgres://u@/d?host=/run/pg', { host: '/run/pg', user: 'u', database: 'd' }],
    [
      'postgres://u@/d?host=%2Frun%2Fa%2C%23,b/c',
      { host: '/run/a,#,b/c', user: 'u', database: 'd' },
    ],
    ['postgres://u@%2Frun%2Fa%2C%23%20b:6/d', { host: '/run/a,# b', port: 6, database: 'd' }],
    ['postgres://[::1]:5/my%40d', { host: '::1', port: 5, database: 'my@d' }],
    ['postgres://h/d?sslmode=disable', { ssl: false }],
    ['postgres://h/d?sslmode=no-verify', { ssl: { rejectUnauthorized: false } }],
    ['postgres://h/d?sslmode=verify-full', { ssl: { rejectUnauthorized: true } }],
    ['postgres:///d?host=/run/pg&sslmode=verify-full', { ssl: false }],
  ]
  for (const [url, expected] of cases) t.match(serversOf(url), [expected], url)
})

t.test('it may name several hosts, which are tried in their order', async (t) => {
  const target = 'target_session_attrs=read-write'
  const cases: readonly (readonly [string, readonly (readonly [string, number])[]])[] = [
    [
      `postgres://u:p@h1:1,h2:2/d?${target}`,
      [
        ['h1', 1],
        ['h2', 2],
      ],
    ],
    [
      `postgres://u:p@h1,h2:2,h3/d?${target}`,
      [
        ['h1', 5432],
        ['h2', 2],
        ['h3', 5432],
      ],
    ],
    [
      `postgres://[::1]:5,[2001:db8::7],10.0.0.1/d?${target}`,
      [
        ['::1', 5],
        ['2001:db8::7', 5432],
        ['10.0.0.1', 5432],
      ],
    ],
    [
      `postgres://%2Frun%2Fa%2Cb,h2/d?${target}`,
      [
        ['/run/a,b', 5432],
        ['h2', 5432],
      ],
    ],
    [
      'postgres:///d?host=h1%2Ch2',
      [
        ['h1', 5432],
        ['h2', 5432],
      ],
    ],
    [
      'postgres:///d?host=h1,h2&port=6432',
      [
        ['h1', 6432],
        ['h2', 6432],
      ],
    ],
    [
      'postgres://h9:7/d?host=/run/pg,h2&port=1,2',
      [
        ['/run/pg', 1],
        ['h2', 2],
      ],
    ],
    [
      'postgres://h1:1,h2:2/d?port=3,',
      [
        ['h1', 3],
        ['h2', 5432],
      ],
    ],
    [
      'postgres://h9:7/d?host=h1,h2',
      [
        ['h1', 7],
        ['h2', 7],
      ],
    ],
  ]
  for (const [url, expected] of cases) {
    t.same(
      serversOf(url).map(({ host, port }) => [host, port]),
      expected,
      url,
    )
  }
  for (const value of ['any', 'read-write', 'primary']) {
    t.ok(parseDatabaseUrl(`postgres://h1,h2/d?target_session_attrs=${value}`))
  }
  const verified = serversOf('postgres://h1,10.0.0.1/d?sslmode=verify-full')
  t.match(verified, [{ ssl: { host: 'h1', servername: 'h1' } }, { ssl: { host: '10.0.0.1' } }])
  t.notOk('servername' in Object(verified[1]?.ssl), 'no SNI of an address')
})

t.test('what it cannot mean is refused, without a word of the password', async (t) => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['mysql://h/d', /postgres:\/\//],
    ['POSTGRES://h/d', /postgres:\/\//],
    ['socket:/run/pg?db=d', /postgres:\/\//],
    ['/run/pg d', /postgres:\/\//],
    ['postgres://u:hunter#2@h/d', /percent-encode/],
    ['postgres://u:hunter2@h:99999/d', /^its port is no number from 1 to 65535; give /],
    ['postgres://u:hunter2@[::1]:65536', /^its port is no number/],
    ['postgres://u:5#hunter@h/d', /percent-encode/],
    ['postgres://u:5?hunter@h/d', /percent-encode/],
    ['postgres://u:5/hunter@h/d', /percent-encode/],
    ['postgres://u:p@:5432/d', /postgres:\/\//],
    ['postgres://u:hunter@h1,,h2/d', /one of its hosts is empty/],
    ['postgres://u:hunter@h1,/d', /one of its hosts is empty/],
    ['postgres:///d?host=h1,&password=hunter', /one of its hosts is empty/],
    ['postgres://u:hunter@h1,:5/d', /postgres:\/\//],
    ['postgres://u:hunter@h1%2Ch2/d', /postgres:\/\//],
    ['postgres://u:hunter@h1,h2:x/d', /postgres:\/\//],
    ['postgres://u:hunter@h1,h2:99999/d', /^its port is no number/],
    ['postgres://u:hunter@h1,[::1/d', /postgres:\/\//],
    ['postgres://u:5,hunter/2@h1,h2/d', /percent-encode/],
    ['postgres://u:hunter,a#2@h1,h2/d', /percent-encode/],
    ['postgres:///d?host=h1,h2&port=1,2,3', /names 2 hosts and 3 ports; give one port for all/],
    ['postgres://h1,h2,h3/d?port=1,2', /names 3 hosts and 2 ports/],
    ['postgres://h1,h2/d?port=1,0', /port is no number/],
    ['postgres://a,b,c,d,e,f,g,h,i/d', /names 9 hosts; give 8 at most/],
    [
      'postgres://h1,h2/d?target_session_attrs=standby',
      /=standby leads to servers that take no writes; give .*=read-write/,
    ],
    ['postgres://h1,h2/d?target_session_attrs=prefer-standby', /take no writes/],
    ['postgres://h/d?target_session_attrs=read-only', /take no writes/],
    [
      'postgres://h1,h2/d?target_session_attrs=Read-Write',
      /is none of read-write, primary, any; give/,
    ],
    ['postgres://h1,h2/d?target_session_attrs=', /target_session_attrs without a value/],
    ['postgres://h1,h2/d?target_session_attr=primary', /is target_session_attrs meant/],
    [
      'postgres://h1,h2/d?load_balance_hosts=random',
      /has load_balance_hosts, which means nothing here/,
    ],
    ['postgres://h/d?port=0', /port/],
    ['postgres://h/d?port=5432x', /port/],
    ['postgres://h/d?SSLMODE=require', /SSLMODE.* sslmode meant/],
    ['postgres://h/d?ssl=0', /has ssl,.* sslmode meant/],
    ['postgres://h/d?sslRootCert=x', / sslrootcert meant/],
    ['postgres://h/d?hostaddr=10.0.0.1', / host meant/],
    ['postgres://h/d?uselibpqcompat=true', /Known: host, port/],
    ['postgres://h/d?options=-c%20fsync%3Doff', /has options/],
    ['postgres://h/d?query_timeout=0', /has query_timeout/],
    ['postgres://h/d?__proto__=x', /has __proto__/],
    ['postgres://h/d?sslmode=verify-full&sslmode=disable', /sslmode twice/],
    ['postgres://h/d?sslmode=', /sslmode without a value/],
    ['postgres://h/d?host=', /host without a value/],
    ['postgres://h/d?sslmode=require', /none of .*; give verify-full \(as which/],
    ['postgres://h/d?sslmode=Verify-Full', /none of .*; give verify-full$/],
    ['postgres://h/d?sslrootcert=/ca.pem', /sslrootcert counts with sslmode=verify-full/],
    ['postgres://h/d?sslrootcert=/ca.pem&sslmode=no-verify', /sslrootcert counts with/],
    ['postgres://h/d?sslcert=/c.pem&sslmode=verify-full', /belong together/],
    ['postgres://h/d?sslcert=/c.pem&sslkey=/k.pem', /sslcert counts with TLS/],
  ]
  for (const [url, message] of refused) {
    t.throws(() => parseDatabaseUrl(url), { name: 'DatabaseUrlError', message }, url)
    t.throws(() => parseDatabaseUrl(url), { message: /^(?!.*hunter)/ }, 'no piece of the password')
  }
})

t.test('only a unix socket and loopback are local', async (t) => {
  const locals = ['/run/pg', 'localhost', 'LOCALHOST', '127.0.0.1', '127.9.9.9', '::1', undefined]
  for (const host of [...locals, '::ffff:127.0.0.1']) t.ok(isLocal({ host }), String(host))
  const others = ['localhost.example', '127.0.0.1.example', '10.0.0.1', '0.0.0.0', '::', '127.1']
  for (const host of [...others, 'localhost\t', '@abstract', './run'])
    t.notOk(isLocal({ host }), host)
})

/** A PostgreSQL that has TLS, or (undefined) none; `seen` tells how each client came. */
async function front(t: Test, databaseUrl: string, tls: TlsOptions | undefined) {
  const target = new URL(databaseUrl)
  const backend = `${target.searchParams.get('host')}/.s.PGSQL.${target.port || 5432}`
  const seen: ('plain' | 'tls')[] = []
  const sockets = new Set<Socket>()
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket))
  }
  const pass = (client: Socket, how: 'plain' | 'tls') => {
    seen.push(how)
    const server = openLine(backend)
    keep(server)
    client.pipe(server).pipe(client)
  }
  const listener = createServer((socket) => {
    keep(socket)
    socket.once('data', (head) => {
      if (head.equals(SSL_REQUEST)) {
        socket.write(tls === undefined ? 'N' : 'S')
        if (tls === undefined) return
        const secure = new TLSSocket(socket, { isServer: true, ...tls })
        keep(secure)
        secure.once('secure', () => pass(secure, 'tls'))
        return
      }
      pass(socket, 'plain')
      socket.unshift(head)
    })
  })
  await once(listener.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    listener.close()
    for (const socket of sockets) socket.destroy()
  })
  const { port } = listener.address() as AddressInfo // of a server that listens on TCP
  const urlOf = (host: string, query: string) =>
    `postgres://${target.username}@${host}:${port}${target.pathname}?${query}`
  return {
    seen,
    port,
    urlOf,
    /** undefined, or why there was no answer. `host` may be a list whose last one has this port. */
    async ask(host: string, query: string): Promise<string | undefined> {
      const url = urlOf(host, query)
      const pool = new Pool({ url, maxConnections: 1, isPrepared: true, connectTimeoutMs: 20_000 })
      try {
        await pool.query({ name: 'one', text: 'select 1' })
        return undefined
      } catch (error) {
        return String(Object(Object(error).cause).message)
      } finally {
        await pool.close(5_000)
      }
    },
  }
}

/** A CA and what it issued, as paths without `.pem` and `.key`. */
function certificates(t: Test) {
  const directory = t.testdir()
  const path = (name: string, ending: string) => join(directory, `${name}.${ending}`)
  const make = (name: string, ...options: readonly string[]) => {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    const files = ['-keyout', path(name, 'key'), '-out', path(name, 'pem'), '-days', '2']
    const args = ['req', '-x509', ...key, ...files, '-subj', `/CN=${name}`, ...options]
    const { status, stderr } = spawnSync('openssl', args, { encoding: 'utf8' })
    if (status !== 0) throw new Error(stderr)
  }
  const issued = (name: string, names: string) => {
    const by = ['-CA', path('ca', 'pem'), '-CAkey', path('ca', 'key')]
    make(name, ...by, '-addext', `subjectAltName=${names}`)
  }
  make('ca')
  make('other-ca')
  issued('server', 'DNS:localhost,IP:127.0.0.1')
  issued('elsewhere', 'DNS:db.example,IP:10.0.0.1')
  issued('client', 'DNS:client')
  const read = (name: string, ending: string) => readFileSync(path(name, ending))
  return {
    path,
    read,
    pair: (name: string) => ({ cert: read(name, 'pem'), key: read(name, 'key') }),
  }
}

t.test('sslmode does what it says', { skip: missing }, async (t) => {
  const databaseUrl = await createDatabase(t)
  const { path, read, pair } = certificates(t)
  const verify = `sslmode=verify-full&sslrootcert=${path('ca', 'pem')}`
  const good = await front(t, databaseUrl, pair('server'))
  t.equal(await good.ask('localhost', verify), undefined)
  t.equal(await good.ask('127.0.0.1', verify), undefined, 'by address')
  t.match(await good.ask('localhost', 'sslmode=verify-full'), /certificate/, 'no public CA')
  const others = `sslmode=verify-full&sslrootcert=${path('other-ca', 'pem')}`
  t.match(await good.ask('localhost', others), /certificate/, 'of another CA')
  t.equal(await good.ask('localhost', 'sslmode=no-verify'), undefined)
  t.equal(await good.ask('localhost', 'sslmode=disable'), undefined)
  t.equal(await good.ask('localhost', ''), undefined)
  t.same(good.seen.filter((how) => how === 'plain').length, 2)

  const before = good.seen.length
  const stuck = { url: good.urlOf('localhost', verify), maxConnections: 1, isPrepared: false }
  const pool = new Pool({ ...stuck, queryTimeoutMs: 500, connectTimeoutMs: 20_000 })
  const sleep = { name: 'sleep', text: 'select pg_sleep(60)' }
  await t.rejects(pool.query(sleep), { code: 'db_unavailable' })
  await pool.query({ name: 'one', text: 'select 1' })
  await pool.close(5_000)
  const db = await connect(t, databaseUrl)
  const running = `select from pg_stat_activity
    where datname = current_database() and state = 'active' and query like '%pg_sleep%' and pid <> pg_backend_pid()`
  t.equal((await db.query(running)).rowCount, 0, 'a statement that was given up is cancelled')
  t.same(good.seen.slice(before), ['tls', 'tls', 'tls'], 'over TLS as well')

  const elsewhere = await front(t, databaseUrl, pair('elsewhere'))
  t.match(await elsewhere.ask('localhost', verify), /altnames|does not match/)
  t.match(await elsewhere.ask('127.0.0.1', verify), /altnames|does not match/)
  t.equal(await elsewhere.ask('localhost', 'sslmode=no-verify'), undefined)

  const list = `localhost:${elsewhere.port},localhost`
  t.equal(await good.ask(list, verify), undefined, 'each host of a list shows its own name')
  t.match(await elsewhere.ask(list, verify), /^localhost:\d+: .*(altnames|does not match)/)

  const none = await front(t, databaseUrl, undefined)
  for (const query of [verify, 'sslmode=no-verify']) {
    t.match(await none.ask('localhost', query), /does not support SSL/)
  }
  t.same(none.seen, [], 'nothing is sent in clear instead')

  const asking = await front(t, databaseUrl, {
    ...pair('server'),
    requestCert: true,
    rejectUnauthorized: true,
    ca: read('ca', 'pem'),
  })
  const client = `${verify}&sslcert=${path('client', 'pem')}&sslkey=${path('client', 'key')}`
  t.equal(await asking.ask('localhost', client), undefined)
  t.not(await asking.ask('localhost', verify), undefined)

  const secret = 'Qd8vXr2kWz9mBt4sLh7cYp3nVf6jUg5a'
  const settings = {
    DATABASE_URL: `postgres://h/d?${client}`,
    ADMIN_TOKENS: `ops=${secret}`,
    HMAC_SECRET: secret,
  }
  t.equal(
    parseConfig(settings, (file) => readFileSync(file, 'utf8')).databaseUrl,
    settings.DATABASE_URL,
  )
  const ssl = serversOf(settings.DATABASE_URL)[0]?.ssl
  copyFileSync(path('other-ca', 'pem'), path('ca', 'pem'))
  const renewed = read('other-ca', 'pem').toString()
  t.equal(Object(ssl).ca, renewed, 'a renewed file counts for the next connection')
  rmSync(path('ca', 'pem'))
  t.equal(Object(ssl).ca, renewed, 'while there is none, the last one does')
})
