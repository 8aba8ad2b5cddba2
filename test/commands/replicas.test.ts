/** One request_id at two replicas at once: one command, one message, and the same answer to everyone. */
import t from 'tap'
import { pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import type { LogLine } from '../../testkit/log-book.ts'
import type { TestResponse } from '../helpers/client.ts'
import { connect } from '../helpers/database.ts'
import { startService } from '../helpers/service.ts'

const POSTS = 50

const fcm = await startFakeFcm()
t.teardown(() => fcm.close())
const env = pushSettings(fcm)
const first = await startService(t, { env })
const second = await startService(t, { env, databaseUrl: first.databaseUrl })
const db = await connect(t, first.databaseUrl)
fcm.register('push-1', () => {})
const { deviceId } = await first.enroll('D01', { fcm_token: 'push-1' })

/** The n-th post; even ones go to the first replica, odd ones to the second. Said again while the machine is too busy. */
async function post(n: number, body: object): Promise<TestResponse> {
  for (;;) {
    const response = await (n % 2 === 0 ? first : second).call(
      'POST',
      '/admin/command?wait_ms=10000',
      { body: { device_id: deviceId, ...body } },
    )
    if (response.status !== 503) return response
  }
}

const posts = (body: object) => Promise.all(Array.from({ length: POSTS }, (_, n) => post(n, body)))

const sendsOf = (id: string) => fcm.journal.filter(({ data }) => data['request_id'] === id)

async function count(table: string, id: string): Promise<number> {
  const { rows } = await db.query(`select count(*)::int as n from ${table} where request_id = $1`, [
    id,
  ])
  return rows[0].n
}

t.test('fifty posts at two replicas: one row, one message, fifty equal answers', async (t) => {
  const body = { action: 'ping', request_id: 'fifty', params: { a: '1' } }
  const responses = await posts(body)
  t.equal(responses.filter(({ status }) => status === 202).length, 1)
  t.equal(responses.filter(({ status }) => status === 200).length, POSTS - 1)
  // Each answer has the push's present state: an earlier answer to a repeat knows less of it.
  const commands = responses.map(({ body: { status, push, duplicate, ...rest } }) => rest)
  for (const command of commands) t.same(command, commands[0])
  t.equal(await count('commands', 'fifty'), 1)
  t.equal(await count('audit_log', 'fifty'), 1)
  const isAccepted = (line: LogLine) =>
    line.event === 'dispatch.request' && line['request_id'] === 'fifty'
  const maker = responses.findIndex(({ status }) => status === 202) % 2 === 0 ? first : second
  await maker.lines.waitFor(isAccepted)
  const lines = [first, second].flatMap((service) => service.lines.all.filter(isAccepted))
  t.equal(lines.length, 1, 'and one line of it')

  await fcm.waitForSend(({ data }) => data['request_id'] === 'fifty')
  const made = responses.find(({ status }) => status === 202)
  for (const again of await posts(body)) {
    t.equal(again.status, 200)
    t.same(again.body, { ...made?.body, duplicate: true }, 'once it is sent all is equal')
  }
  t.equal(sendsOf('fifty').length, 1)
  const { rows } = await db.query(
    `select stage from command_events where request_id = 'fifty' order by event_id`,
  )
  t.same(rows, [{ stage: 'accepted' }, { stage: 'push_sent' }])
})

t.test('the same id with another action: 409 and nothing sent', async (t) => {
  const ping = { action: 'ping', request_id: 'other' }
  t.equal((await post(0, ping)).status, 202)
  for (const response of await posts({ ...ping, action: 'reboot' })) {
    t.match(response, { status: 409, body: { code: 'request_id_conflict' } })
  }
  t.match(
    sendsOf('other').map(({ data }) => data['action']),
    ['ping'],
  )
  t.equal(await count('commands', 'other'), 1)
})

t.test('two actions that race for one id: one is sent, the other refused', async (t) => {
  const [pings, rings] = await Promise.all([
    posts({ action: 'ping', request_id: 'raced' }),
    posts({ action: 'ring', request_id: 'raced' }),
  ])
  const refused = [...pings, ...rings].filter(({ status }) => status === 409)
  t.equal(refused.length, POSTS)
  const isPing = pings.every(({ status }) => status !== 409)
  await fcm.waitForSend(({ data }) => data['request_id'] === 'raced')
  t.same(
    sendsOf('raced').map(({ data }) => data['action']),
    [isPing ? 'ping' : 'ring'],
  )
})
