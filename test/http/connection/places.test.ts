/** Connections that pipeline without end: so many have a place, and each place is given back once. */
import { once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import t, { type Test } from 'tap'
import { makeApk } from '../../../sim/apk.ts'
import { until } from '../../../testkit/until.ts'
import { connect } from '../../helpers/database.ts'
import { head, openRaw, type RawConnection } from '../../helpers/raw.ts'
import { ADMIN, startService } from '../../helpers/service.ts'
import { DETACHING } from './one-connection.ts'

const HEALTH = head('GET /healthz HTTP/1.1')
const service = await startService(t)

/** Connections that may pipeline without end (docs/reference/bounds.md). */
const PLACES = 32

const openMany = (t: Test, length: number) =>
  Promise.all(Array.from({ length }, () => openRaw(t, service.origin)))

/** Resolves once only the connection that asks is open. */
function allClosed(): Promise<void> {
  return until(async () => {
    const { text } = await service.call('GET', '/metrics')
    return text.includes('\nfleetloop_connections_open 1\n')
  }, 'the close of all others')
}

t.test('who pipelines no more leaves its place to others', async (t) => {
  const idle: RawConnection[] = []
  while (idle.length < PLACES + 2) {
    const connection = await openRaw(t, service.origin)
    idle.push(connection)
    connection.write(HEALTH.repeat(20))
    t.equal((await connection.answer(20)).status, 200)
  }
  for (const connection of idle) connection.destroy()
  await allClosed()
})

t.test('who leaves amid its requests gives its place back, and only its own', async (t) => {
  for (let round = 0; round < 2; round += 1) {
    const leaving = await openMany(t, PLACES)
    for (const connection of leaving) connection.write(HEALTH.repeat(2_000))
    for (const connection of leaving) await connection.answer(4)
    for (const connection of leaving) connection.destroy()
    await allClosed()
  }
  const staying = await openMany(t, 2 * PLACES)
  for (const connection of staying) connection.write(HEALTH.repeat(2_000))
  const count = () => staying.filter(({ isClosed }) => isClosed).length
  await until(() => count() >= PLACES, 'the refusal of those without a place')
  t.equal(count(), PLACES, 'the others are served on')
  for (const last of DETACHING) {
    const another = await openRaw(t, service.origin)
    another.write(`${HEALTH.repeat(3)}${last}`)
    await another.closed()
    t.equal(another.answers.length, 3, `the last was ${last.slice(0, 7)}`)
    const leaving = connectSocket(Number(new URL(service.origin).port), '127.0.0.1')
    leaving.write(`${HEALTH.repeat(3)}${last}`)
    await once(leaving, 'data')
    leaving.resetAndDestroy()
  }
  for (const connection of staying) connection.destroy()
  await allClosed()
})

t.test('a download whose record is not written yet is no open request', async (t) => {
  const db = await connect(t, service.databaseUrl)
  const path = '/admin/apk/builds/b1?version_code=1'
  t.equal((await service.call('PUT', path, { raw: makeApk() })).status, 201)
  await db.query(`
    create function held_up() returns trigger language plpgsql as
      $$ begin perform pg_advisory_xact_lock(21); return new; end $$;
    create trigger held_up before update on apk_download_events
      for each row execute function held_up();
    select pg_advisory_lock(21)`)
  const connection = await openRaw(t, service.origin)
  const piece = head(
    'GET /v1/apk/download-latest HTTP/1.1',
    `Authorization: Bearer ${ADMIN}`,
    'Range: bytes=0-9',
  )
  for (let count = 1; count <= 3; count += 1) {
    connection.write(piece)
    t.equal((await connection.answer(count)).status, 206)
  }
  connection.write(HEALTH)
  t.equal((await connection.answer(4)).status, 200)
  const heldUp = 'select from pg_locks where objid = 21 and not granted'
  await until(async () => (await db.query(heldUp)).rowCount !== 0, 'a record that is held up')
  await db.query('select pg_advisory_unlock(21)')
})
