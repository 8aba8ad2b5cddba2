/** Each sslmode does what it says, before a real PostgreSQL behind a proxy with TLS. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, connect as openLine, type Socket } from 'node:net'
import { join } from 'node:path'
import { TLSSocket, type TlsOptions } from 'node:tls'
import t, { type Test } from 'tap'
import { parseConfig } from '../../src/config/config.ts'
import { serversOf } from '../../src/db/postgres/database-url.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { connect, createDatabase } from '../helpers/database.ts'

const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

const missing = spawnSync('openssl', ['version']).error !== undefined && 'needs openssl'

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
