/** Databases that the service does not reach, or must not trust, on a server of their own: a sentence for each. */

import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createApi } from '../../src/cli/api/client.ts'
import { readSession, sessionFaults } from '../../src/db/postgres/session-check.ts'
import { startEmbedded } from '../../src/dev/embedded-postgres.ts'
import { call } from '../helpers/client.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { ADMIN, launchService, type Started, settings } from '../helpers/service.ts'

/** Processes that start together. */
const AT_ONCE = 4

/** A server of its own, whose pg_hba.conf and postgresql.conf are ours. */
async function ownServer(t: Test) {
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-own-'))
  const { url, stop } = await startEmbedded({ dataDir, log: () => {} })
  t.teardown(async () => {
    await stop()
    rmSync(dataDir, { recursive: true, force: true })
  })
  writeFileSync(
    join(dataDir, 'postgres/pg_hba.conf'),
    'local all rejected reject\nlocal all sworn scram-sha-256\nlocal all all trust\n',
  )
  const db = await connect(t, url)
  const as = (user: string, database = 'fleetloop') => {
    const own = new URL(url)
    own.username = user
    own.pathname = `/${database}`
    return own.href
  }
  return { db, as }
}

/** Such a line comes on stderr; resolves with all of it. */
async function said(launched: Started, pattern: RegExp): Promise<string> {
  while (!pattern.test(launched.notes()))
    await once(launched.process.stderr ?? launched.process, 'data')
  return launched.notes()
}

t.test('a database that is not reached says why', async (t) => {
  const { db, as } = await ownServer(t)
  await db.query(`create role rejected login; create role sworn login password 'hunter-2';
    create role asleep; create role crowd login connection limit 0; create role stranger login`)
  await db.query('create database closed')
  await db.query('revoke connect on database closed from public; select pg_reload_conf()')
  const sworn = new URL(as('sworn'))
  sworn.password = 'hunter-3'
  const troubles: (readonly [url: string, why: RegExp, code: string])[] = [
    [sworn.href, /password authentication failed for user "sworn"/, 'password_refused'],
    [as('sworn'), /it wants a password, and its URL has none/, 'password_refused'],
    [as('fleetloop', 'nowhere'), /database "nowhere" does not exist/, 'database_missing'],
    [as('nobody'), /role "nobody" does not exist/, 'not_allowed'],
    [as('asleep'), /role "asleep" is not permitted to log in/, 'not_allowed'],
    [as('rejected'), /pg_hba\.conf rejects connection/, 'not_allowed'],
    [as('stranger', 'closed'), /permission denied for database "closed"/, 'not_allowed'],
    [as('crowd'), /too many connections for role "crowd"/, 'too_many_connections'],
    ['postgres://u@nowhere.invalid/d', /E\w+ nowhere\.invalid/, 'host_unknown'],
    ['postgres://u@127.0.0.1:1/d', /ECONNREFUSED 127\.0\.0\.1:1/, 'refused'],
    ['postgres://u@%2Fnowhere/d', /ENOENT \/nowhere/, 'socket_missing'],
  ]
  const tell = async ([databaseUrl, why, code]: (typeof troubles)[number]) => {
    const launched = launchService(t, settings(databaseUrl))
    const origin = await launched.origin
    const note = `^waiting for the database: .*${why.source}.*; trying again$`
    const notes = await said(launched, new RegExp(note, 'm'))
    t.notMatch(notes, /hunter/)
    const gone = await launched.lines.waitFor(({ event }) => event === 'db.unavailable')
    t.match(gone, { error: why, cause: code })
    const { status, body } = await call(origin, 'GET', '/readyz')
    t.match({ status, why: body.reasons.database }, { status: 503, why: new RegExp(`^${code}: `) })
    t.notMatch(body.reasons.database, /sworn|nowhere|127/, 'anybody may ask')
    const api = createApi({ origin, token: ADMIN, hmacSecret: undefined })
    await t.rejects(api.call('listDevices', {}), { message: new RegExp(`database: ${code}: `) })
    const start = await launched.lines.waitFor(({ event }) => event === 'service.start')
    t.match(start, { database: code })
    t.equal(launched.notes().match(/waiting for/g)?.length, 1, 'told once, tried often')
    launched.signal('SIGKILL')
    await launched.ended
  }
  while (troubles.length > 0) await Promise.all(troubles.splice(0, AT_ONCE).map(tell))
})

t.test('a server that may lose what it acknowledged, or that is too old, is refused', async (t) => {
  const db = await connect(t, await createDatabase(t))
  const facts = await readSession(db, 5_000)
  const rules = { isUnsafeAllowed: false, arePinsChecked: true }
  const said = (name: string, value: string, more = rules) =>
    sessionFaults({ ...facts, settings: { ...facts.settings, [name]: value } }, more)
  t.same(sessionFaults(facts, rules), [])
  for (const name of ['fsync', 'full_page_writes']) {
    const fault = `${name} is "off" and must be "on": alter system set ${name} = on, and reload`
    t.match(said(name, 'off'), [new RegExp(`^${fault}.*ALLOW_UNSAFE_DATABASE=true`)])
    t.same(said(name, 'off', { ...rules, isUnsafeAllowed: true }), [])
  }
  for (const value of ['remote_write', 'remote_apply']) {
    t.same(said('synchronous_commit', value), [], 'more than we ask for')
  }
  t.match(said('datestyle', 'German, DMY'), [/alter role .* set datestyle = 'ISO, MDY'$/])
  t.same(said('datestyle', 'ISO, DMY'), [], 'no date of ours can be read in two ways')
  t.match(sessionFaults({ ...facts, version: 130_021 }, rules), [/PostgreSQL 13\.21; .* 14 to 18/])
})
