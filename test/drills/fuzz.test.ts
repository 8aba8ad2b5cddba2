/** The fuzzer's short form (`npm run fuzz` is the long one): whatever comes, answers and log lines keep the contract (R8). */
import t from 'tap'
import { startChild } from '../../drills/attacks/child.ts'
import { GROSS } from '../../drills/attacks/criterion.ts'
import type { ProbeQuestion, ProbeReply } from '../../drills/attacks/probe.ts'
import { LinesOracle } from '../../drills/fuzz/lines.ts'
import { runFuzz } from '../../drills/fuzz/run.ts'
import { readSeries } from '../../drills/fuzz/series.ts'
import { createFuzzWorld } from '../../drills/fuzz/world.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import { ADMIN, HMAC_SECRET, startService } from '../helpers/service.ts'

const READER = 'reader-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const REQUESTS = 4_000
const SEED = 1
const ACTIONS = ['ping', 'ring']

t.test(`${REQUESTS} requests of the grammar, a third of them damaged`, async (t) => {
  const service = await startService(t, {
    env: {
      ADMIN_TOKENS: `tester=${ADMIN},reader:read=${READER}`,
      COMMAND_ACTIONS: ACTIONS.join(','),
      LOG_LEVEL: 'DEBUG',
      RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    },
  })
  const world = await createFuzzWorld(service.origin, {
    adminToken: ADMIN,
    readerToken: READER,
    hmacSecret: HMAC_SECRET,
  })
  const lines = new LinesOracle(ROUTE_LIST.map(({ path }) => path))
  const probe = startChild<ProbeQuestion, ProbeReply>('./probe.js')
  t.teardown(() => probe.end())
  await probe.ask({ do: 'start', port: Number(new URL(service.origin).port) })
  const report = await runFuzz({
    origin: service.origin,
    world,
    routes: ROUTE_LIST,
    seed: SEED,
    requests: REQUESTS,
    connections: 32,
    lines,
  })
  const probes = await probe.ask({ do: 'read' })
  await probe.end()
  t.same(report.faults, [])
  t.ok(report.floods >= REQUESTS / 1_000, `${report.floods} floods`)
  t.ok(probes.worstMs < GROSS.stallMs, `/healthz at worst ${probes.worstMs} ms`)
  t.equal(probes.failed, 0)
  t.equal(report.answered + report.aborted + report.silent, REQUESTS, 'each came to its end')
  for (const status of [
    '200',
    '201',
    '202',
    '204',
    '400',
    '401',
    '403',
    '404',
    '405',
    '413',
    '415',
    '422',
  ]) {
    t.ok(report.byStatus[status], `an answer ${status}`)
  }
  t.comment(`answers: ${JSON.stringify(report.byStatus)}; 5xx: ${JSON.stringify(report.byCode)}`)

  const { text } = await service.call('GET', '/metrics')
  const facts = readSeries(text, ROUTE_LIST, ACTIONS)
  t.same(facts.faults, [])
  t.equal(await service.stop(), 0)
  for (const line of service.lines.raw) lines.line(line)
  lines.finish()
  t.same(lines.faults, [])
  t.ok(facts.requests >= report.answered + report.further, 'each answer is counted')
})
