/** What a simulated phone does with commands: signatures, running once, and how it reports. */
import { createHash } from 'node:crypto'
import t from 'tap'
import { checkSignature } from '../../src/security/signature.ts'
import { DEVICE_ID, enrolled, HMAC_KEY, HOUR_MS, message, START_MS } from './phone.ts'

t.test('a command runs once, however often and by whatever way it comes', async (t) => {
  const ran: string[] = []
  const heard: object[] = []
  const { device, world, requests } = await enrolled({
    run(command) {
      ran.push(command['request_id'] ?? '')
      return { outcome: 'failure', message: 'no app' }
    },
    listener: {
      onHeartbeat: (fact) => heard.push(fact),
      onCommand: (fact) => heard.push(fact),
      onResult: (fact) => heard.push(fact),
    },
  })
  const first = message({ requestId: 'once' })
  await Promise.all([device.receive(first), device.receive(first)])
  world.answer = ({ path }) => ({
    status: 200,
    headers: { 'x-request-id': path },
    body: path === '/v1/heartbeat' ? { deduped: true, commands: [first] } : { duplicate: true },
  })
  await device.beat()

  t.same(ran, ['once'])
  t.match(device.counts, { commandsByPush: 2, commandsByMailbox: 1, commandsRun: 1 })
  t.match(device.counts, { commandsRepeated: 2, resultsAccepted: 2, resultsDuplicate: 1 })
  t.same(
    heard,
    [
      { requestId: 'once', by: 'push', kind: 'running' },
      { requestId: 'once', by: 'push', kind: 'ran' },
      { requestId: 'once', httpRequestId: '', isDuplicate: false },
      { deviceId: DEVICE_ID, httpRequestId: '/v1/heartbeat', isDeduped: true },
      { requestId: 'once', by: 'mailbox', kind: 'repeated' },
      { requestId: 'once', httpRequestId: '/v1/action-result', isDuplicate: true },
    ],
    'a repeat reports the stored result again',
  )
  const results = requests.filter(({ path }) => path === '/v1/action-result')
  t.match(JSON.parse(String(results[0]?.body)), {
    request_id: 'once',
    outcome: 'failure',
    message: 'no app',
  })
  t.equal(results[0]?.body, results[1]?.body)
})

t.test('what is not signed for it, or is over, does not run', async (t) => {
  const ran: unknown[] = []
  const { device, world, paths } = await enrolled({
    run: (command) => {
      ran.push(command)
      return { outcome: 'success', message: '' }
    },
  })
  const other = message({ deviceId: 'another' })
  const forged = { ...message(), hmac: '0'.repeat(64) }
  const changed = { ...message(), seconds: '500' }
  for (const data of [other, forged, changed, {}]) await device.receive(data)
  t.equal(device.counts.commandsRefused, 4)

  world.nowMs = START_MS + HOUR_MS
  await device.receive(message())
  t.equal(device.counts.commandsExpired, 1, 'at its end it has ended')
  t.same([ran, paths()], [[], []])
})

t.test('results come now, late, twice or never, and a repeat does not change that', async (t) => {
  const reports = { now: 'now', twice: 'twice', never: 'never', late: { afterMs: 5_000 } } as const
  const expected = {
    now: { atOnce: 1, repeat: 1, later: 0 },
    twice: { atOnce: 2, repeat: 1, later: 0 },
    never: { atOnce: 0, repeat: 0, later: 0 },
    late: { atOnce: 0, repeat: 0, later: 1 },
  }
  for (const kind of ['now', 'twice', 'never', 'late'] as const) {
    const { device, world, paths } = await enrolled({
      run: () => ({ outcome: 'success', message: '', report: reports[kind] }),
    })
    const data = message()
    await device.receive(data)
    const atOnce = paths().length
    await device.receive(data)
    const repeat = paths().length
    world.nowMs += 4_999
    await device.drain()
    t.same(paths(), [], `${kind}: not before its time`)
    world.nowMs += 1
    await device.drain()
    t.same({ atOnce, repeat, later: paths().length }, expected[kind], kind)
  }
})

t.test('the fielded agent answers a ping by a heartbeat and all else by an ack', async (t) => {
  const heard: object[] = []
  const { device, world, requests } = await enrolled({
    habits: { reportsBy: 'ack', hasDoubleSlash: true, shape: 'flat' },
    listener: {
      onHeartbeat: () => {},
      onCommand: () => {},
      onResult: (fact) => heard.push(fact),
    },
  })
  await device.receive(message({ action: 'ping', requestId: 'ping-1' }))
  await device.receive(message({ requestId: 'ring-1' }))
  t.same(
    requests.map(({ path }) => path),
    ['//v1/heartbeat', `/v1/devices/${DEVICE_ID}/ack`],
  )
  t.match(JSON.parse(String(requests[0]?.body)), {
    is_ping_response: true,
    ping_request_id: 'ping-1',
  })
  t.match(JSON.parse(String(requests[1]?.body)), { correlation_id: 'ring-1', status: 'OK' })
  t.match(heard, [{ requestId: 'ping-1', isDuplicate: null }, { requestId: 'ring-1' }])

  world.answer = () => ({ status: 200, body: { ignored: ['ping_request_id'] } })
  await device.receive(message({ action: 'ping', requestId: 'ping-2' }))
  t.equal(heard.length, 2, 'a ping answer that is ignored is no result')
})

t.test('a signed result holds before the service', async (t) => {
  const { device, requests } = await enrolled({ habits: { signsResults: true } })
  await device.receive(message())
  await device.beat()
  const [result, heartbeat] = requests
  const verdict = checkSignature(
    {
      header: result?.headers?.['x-signature'],
      method: 'POST',
      url: '/v1/action-result',
      requestIdHeader: '',
      bodySha256: createHash('sha256').update(String(result?.body)).digest('hex'),
    },
    HMAC_KEY,
    START_MS / 1_000,
  )
  t.equal(verdict.kind, 'valid')
  t.equal(heartbeat?.headers?.['x-signature'], undefined, 'a heartbeat is not signed')
})
