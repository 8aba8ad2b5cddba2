/** What DATABASE_URL means, and what it cannot mean. */
import t from 'tap'
import { isLocal, parseDatabaseUrl, serversOf } from '../../src/db/postgres/database-url.ts'

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
  for (const [url, expected] of [
    [`postgres://u:p@h1:1,h2:2/d?${target}`, ['h1 1', 'h2 2']],
    [`postgres://u:p@h1,h2:2,h3/d?${target}`, ['h1 5432', 'h2 2', 'h3 5432']],
    [
      `postgres://[::1]:5,[2001:db8::7],10.0.0.1/d?${target}`,
      ['::1 5', '2001:db8::7 5432', '10.0.0.1 5432'],
    ],
    [`postgres://%2Frun%2Fa%2Cb,h2/d?${target}`, ['/run/a,b 5432', 'h2 5432']],
    ['postgres:///d?host=h1%2Ch2', ['h1 5432', 'h2 5432']],
    ['postgres:///d?host=h1,h2&port=6432', ['h1 6432', 'h2 6432']],
    ['postgres://h9:7/d?host=/run/pg,h2&port=1,2', ['/run/pg 1', 'h2 2']],
    ['postgres://h1:1,h2:2/d?port=3,', ['h1 3', 'h2 5432']],
    ['postgres://h9:7/d?host=h1,h2', ['h1 7', 'h2 7']],
  ] as const) {
    t.same(
      serversOf(url).map(({ host, port }) => `${host} ${port}`),
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
