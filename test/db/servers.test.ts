import dns from 'node:dns/promises'
import { writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { readSeen, SEEN_FILE } from '../../src/db/health/seen-file.ts'
import { type Seen, ServerHistory } from '../../src/db/health/server-history.ts'
import { connect as dial } from '../../src/db/postgres/connect.ts'
import { serversOf } from '../../src/db/postgres/database-url.ts'
import { Pool, type PoolOptions } from '../../src/db/postgres/pool.ts'
import { RewoundError, type ServerClient } from '../../src/db/postgres/server-client.ts'
import { lineTo } from '../../testkit/database/tcp-proxy.ts'
import { until } from '../../testkit/until.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { listenFor } from '../helpers/listen.ts'
import { startService } from '../helpers/service.ts'

/** Listens, and says nothing. */
const silentPort = (t: Test) => listenFor(t, createServer())

/** `url` with a list of hosts that are all at 127.0.0.1. */
function urlWith(url: string, ...ports: readonly (number | string)[]): string {
  const list = new URL(url)
  list.searchParams.set('host', ports.map(() => '127.0.0.1').join(','))
  list.searchParams.set('port', ports.join(','))
  return list.href
}

t.test('a silent host does not hold up the next one', async (t) => {
  const { url } = await lineTo(t, await createDatabase(t))
  const hosts = serversOf(urlWith(url, await silentPort(t), new URL(url).port))
  const client = await dial(hosts, {}, AbortSignal.timeout(20_000))
  t.equal(client.server, hosts[1])
  await client.end()
  const over = AbortSignal.abort(new Error('over'))
  await t.rejects(dial(hosts, {}, over), { message: 'over' })
})

t.test('a name that nobody resolves is given up with the attempt', async (t) => {
  const { lookup } = dns
  const replace = (by: unknown) => {
    Object.assign(dns, { lookup: by })
    syncBuiltinESMExports()
  }
  t.teardown(() => replace(lookup))
  replace(() => new Promise(() => {}))
  const giveUp = new AbortController()
  const dialed = dial(serversOf('postgres://db.example/d'), {}, giveUp.signal)
  setImmediate(() => giveUp.abort(new Error('given up')))
  await t.rejects(dialed, { message: 'given up' })
})

t.test('a host whose statements hang is tried last', async (t) => {
  const url = await createDatabase(t)
  const lines = [await lineTo(t, url), await lineTo(t, url)] as const
  const [first, second] = lines.map((line) => new URL(line.url).port)
  const list = urlWith(lines[0].url, first ?? '', second ?? '')
  const pool = new Pool({ url: list, maxConnections: 2, isPrepared: true, queryTimeoutMs: 500 })
  t.teardown(() => pool.close(1_000))
  const ask = () => pool.query({ name: 'ask', text: 'select 1' })
  await ask()
  lines[0].freezeOpen()
  await t.rejects(ask(), { code: 'db_unavailable' })
  const portOfNext = async () => {
    const client = await pool.attempt(AbortSignal.timeout(20_000))
    await client.end()
    return String(client.server.port)
  }
  t.equal(await portOfNext(), second, 'though the first one takes connections')
  t.equal(await portOfNext(), first, 'once')
})

t.test('a server that has lost something is used while a host is silent', async (t) => {
  const { url } = await lineTo(t, await createDatabase(t))
  const { port } = new URL(url)
  const silent = await silentPort(t)
  const within = () => AbortSignal.timeout(8_000)
  const mark = async (client: ServerClient) => {
    client.rewound = 'lost'
  }
  const spare = await dial(serversOf(urlWith(url, port, silent)), { verify: mark }, within())
  t.equal(spare.rewound, 'lost')
  await spare.end()

  const second = await lineTo(t, url)
  const hosts = serversOf(urlWith(url, port, silent, new URL(second.url).port))
  const made = new Set<ServerClient>()
  const markAll = (client: ServerClient) => mark(client).then(() => void made.add(client))
  const one = await dial(hosts, { verify: markAll }, within())
  made.delete(one)
  await until(() => [...made].every(({ connection }) => connection.stream.destroyed))
  t.equal(made.size, 1, 'the other one is closed')
  await one.end()
  const markFirst = async (client: ServerClient) => {
    if (client.server === hosts[0]) client.rewound = 'lost'
  }
  const better = await dial(hosts, { verify: markFirst }, within())
  t.equal(better.server, hosts[2])
  await better.end()

  let verified = 0
  const breakFirst = async (client: ServerClient) => {
    verified += 1
    if (verified > 1) return
    client.rewound = 'lost'
    setTimeout(() => client.connection.stream.destroy(), 20)
  }
  const alive = await dial(serversOf(urlWith(url, port, silent)), { verify: breakFirst }, within())
  t.notOk(alive.isLost, 'one that breaks off meanwhile is not used')
  await alive.end()
})

t.test('where no host will do, the code is that of the one that came furthest', async (t) => {
  const url = await createDatabase(t)
  const resetting = createServer((socket) => socket.destroy())
  const resets = await listenFor(t, resetting)
  const signal = AbortSignal.timeout(20_000)
  const refusedAndReset = serversOf(urlWith(url, 1, resets))
  const error = await dial(refusedAndReset, {}, signal).catch((error) => error)
  t.match(error.message, /^127\.0\.0\.1:1: .*ECONNREFUSED.*; 127\.0\.0\.1:/)
  t.not(error.code, 'ECONNREFUSED', 'somebody is there, so the next attempt waits')
  const { url: over } = await lineTo(t, url)
  const verify = () => Promise.reject(new RewoundError('another cluster'))
  const hosts = serversOf(urlWith(over, 1, resets, new URL(over).port))
  await t.rejects(dial(hosts, { verify }, signal), { code: '08R00' })

  const lines = [await lineTo(t, url), await lineTo(t, url)]
  const both = serversOf(urlWith(url, ...lines.map((line) => new URL(line.url).port)))
  const standbyFirst = (client: ServerClient) => {
    const code = client.server === both[0] ? '25006' : '28000'
    return Promise.reject(Object.assign(new Error(code), { code }))
  }
  await t.rejects(dial(both, { verify: standbyFirst }, signal), { code: '28000' }, 'not a standby')
})

t.test('a refused write costs no connection', async (t) => {
  const verifySession = async (client: ServerClient) => {
    client.rewound = 'lost'
  }
  const url = await createDatabase(t)
  const failed: unknown[] = []
  const onOutcome: PoolOptions['onOutcome'] = (outcome) => {
    if (outcome.kind === 'failed') failed.push([outcome.what, outcome.isWrite])
  }
  const pool = new Pool({ url, maxConnections: 1, isPrepared: true, verifySession, onOutcome })
  t.teardown(() => pool.close(1_000))
  const pid = async () => {
    const text = 'select pg_backend_pid() as pid'
    return (await pool.query<{ pid: number }>({ name: 'pid', text })).rows[0]?.pid
  }
  const first = await pid()
  const write = { name: 'write', text: 'create table written ()' }
  const refused = { code: 'db_unavailable', cause: { code: '08R00' } }
  await t.rejects(pool.query(write), refused)
  await t.rejects(
    pool.transaction((tx) => tx.query(write)),
    refused,
  )
  await t.rejects(pool.query({ name: 'judge', text: 'select', provesUnknown: true }), refused)
  t.equal(await pid(), first)
  const writes = [...failed.keys()].map((index) => [index < 2 ? 'write' : 'judge', true])
  t.same(failed, writes, 'only a write ends what each of them began')
  t.equal(failed.length, 3)
})

t.test('a server that is behind is reported once in ten minutes, and marked', async (t) => {
  const url = await createDatabase(t)
  const client = await dial(serversOf(url), {}, AbortSignal.timeout(20_000))
  t.teardown(() => client.end())
  const reported: string[] = []
  let nowMs = 0
  const historyOf = (before: Seen | undefined, isUnsafeAllowed = false) =>
    new ServerHistory({
      before,
      isUnsafeAllowed,
      onRewound: ({ reason }) => reported.push(reason),
      nowMs: () => nowMs,
    })
  const verified = async (history: ServerHistory) => {
    client.rewound = undefined
    await history.verify(client, 5_000)
    return client.rewound
  }
  const first = historyOf(undefined)
  t.equal(await verified(first), undefined)
  const { position } = client
  if (position === undefined) throw new Error('the server tells its position to any role')
  t.match(position, { systemId: /^\d+$/, timeline: 1, lsn: /^[0-9A-F]+\/[0-9A-F]+$/ })
  t.match(first.seen, { timeline: 1, lsn: '0/0' }, 'nothing is confirmed yet')
  first.confirm(position)
  t.same(first.seen, position)
  t.equal(await verified(first), undefined)

  const newer = { ...position, timeline: 7 }
  const ahead = { ...position, lsn: 'FFFFFFFF/0' }
  const refusing = historyOf(newer)
  t.match(await verified(refusing), /timeline is older/)
  t.match(await verified(refusing), /timeline is older/)
  t.same(reported, ['timeline'])
  nowMs = 600_000
  t.match(await verified(refusing), /timeline is older/)
  t.same(reported.splice(0), ['timeline', 'timeline'])

  const losing = historyOf(ahead)
  t.match(await verified(losing), /has lost a part of its log/)
  t.same(reported.splice(0), ['lsn'])
  losing.confirm(position)
  t.match(losing.seen, ahead, 'what is behind confirms nothing')
  const regrown = historyOf({ ...position, lsn: 'FFFFFFFF/0' })
  await verified(regrown)
  Object.assign(regrown.seen ?? {}, { lsn: '0/1' }) // its log has come as far
  t.match(await verified(regrown), /has lost a part of its log/, 'it has not got back what it lost')
  t.same(reported.splice(0), ['lsn'])
  const restarted = historyOf({ ...position, lsn: '0/1', hasLost: true })
  t.match(await verified(restarted), /has lost a part of its log/, 'a restart changes nothing')
  restarted.confirm(position)
  t.match(restarted.seen, { lsn: '0/1', hasLost: true })
  t.equal(await verified(historyOf(restarted.seen, true)), undefined)
  t.same(reported.splice(0), ['lsn', 'lsn'])

  t.match(await verified(historyOf(newer, true)), /timeline is older/)
  t.same(reported.splice(0), ['timeline'], 'an old primary is never accepted')
  const accepting = historyOf(ahead, true)
  t.equal(await verified(accepting), undefined)
  t.same(reported.splice(0), ['lsn'])
  t.equal(await verified(accepting), undefined)
  t.same(reported, [], 'from now on it counts')
  const meanwhile = historyOf(position)
  const verifying = verified(meanwhile)
  meanwhile.confirm(ahead)
  t.equal(await verifying, undefined, 'more was confirmed while it was asked')
  t.equal(await verified(historyOf({ ...newer, systemId: '1' })), undefined)
  t.same(reported, [], 'an earlier process may have had another cluster')
})

t.test('of what is stored about a server, only a whole position is read', async (t) => {
  const path = join(tempDirectory(t), SEEN_FILE)
  const whole = { systemId: '7713260900917559113', timeline: 3, lsn: '16/B374D848' }
  const read = async (content: unknown) => {
    writeFileSync(path, JSON.stringify(content))
    return await readSeen(path)
  }
  for (const seen of [whole, { ...whole, hasLost: true }]) t.same(await read(seen), seen)
  for (const wrong of [
    ...[{ lsn: '16/b374d848' }, { lsn: 'x16/B374D848' }, { lsn: '16/B374D8480' }, { lsn: 16 }],
    ...[{ systemId: 7713260900917559 }, { systemId: undefined }],
    ...[{ timeline: '3' }, { timeline: 3.5 }, { timeline: undefined }],
    ...[{ hasLost: false }, { hasLost: 1 }, { hasLost: null }],
  ]) {
    t.equal(await read({ ...whole, ...wrong }), undefined, JSON.stringify(wrong))
    t.equal(await read({ ...whole, hasLost: true, ...wrong }), undefined, JSON.stringify(wrong))
  }
  for (const content of [null, [], 'text', {}]) t.equal(await read(content), undefined)
  writeFileSync(path, `${JSON.stringify(whole)}.`)
  t.equal(await readSeen(path), undefined, 'no JSON')
})

t.test('a server that has revoked its functions is used all the same', async (t) => {
  const url = await createDatabase(t)
  const db = await connect(t, url)
  const name = new URL(url).pathname.slice(1)
  const role = `${name}_role`
  await db.query(`create role ${role} login; alter database ${name} owner to ${role};
    alter schema public owner to ${role}; grant all on all tables in schema public to ${role};
    alter table heartbeats owner to ${role}; alter table heartbeats_default owner to ${role};
    revoke execute on function pg_control_system() from public`)
  t.teardown(() =>
    db.query(
      `alter database ${name} owner to current_user; drop owned by ${role} cascade; drop role ${role}`,
    ),
  )
  const own = new URL(url)
  own.username = role
  const env = { MIGRATE_DATABASE_URL: url }
  const service = await startService(t, { databaseUrl: own.href, env })
  await service.enroll('phone')
  await until(async () =>
    /^fleetloop_db_sync_standbys 0$/m.test((await service.call('GET', '/metrics')).text),
  )
  t.same(service.lines.of('db.unavailable'), [])
})
