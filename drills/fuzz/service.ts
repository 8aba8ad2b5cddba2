/** `npm run fuzz`: promise R8. Fuzzes a service of its own and checks responses, log lines, series and SQL errors. */
import { join } from 'node:path'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { type Ended, startReplica } from '../../testkit/service.ts'
import { startChild } from '../attacks/child.ts'
import type { ProbeQuestion, ProbeReply } from '../attacks/probe.ts'
import { type DatabaseEnvironment, defineDrill, type Figure, type Values } from '../drill.ts'
import { LinesOracle } from './lines.ts'
import { nameErrors, type PostgresErrors, readErrors } from './postgres-errors.ts'
import { type FuzzReport, runFuzz } from './run.ts'
import { readSeries, type SeriesFacts } from './series.ts'
import { createFuzzWorld } from './world.ts'

const OPTIONS = {
  requests: { standard: 1_000_000, what: 'in all' },
  seed: {
    standard: 1,
    what: 'another one makes other requests; the same, but for tokens and ids',
  },
  connections: { standard: 64, what: 'at once' },
} as const

type FuzzOptions = DatabaseEnvironment & Values<typeof OPTIONS>

const SECRETS = {
  adminToken: 'fuzz-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n',
  readerToken: 'fuzz-reader-token-Qd8vXr2kWz9mBt4sLh7cYp3n',
  hmacSecret: 'fuzz-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n',
}
const ACTIONS = ['ping', 'ring']
const PARTS = 10
/** Bound on a response of /healthz, beside 64 connections that never pause. */
const MOST_STALL_MS = 1_000
const MIB = 1024 * 1024

export const fuzzDrill = defineDrill({
  name: 'R8',
  promise:
    'whatever comes, no 5xx: a well-formed answer or a closed connection, valid JSON lines, constant series, no SQL error of class 22',
  options: OPTIONS,
  needs: 'postgres',
  run: (options, environment) => fuzzService({ ...options, ...environment }),
})

async function fuzzService(options: FuzzOptions): Promise<readonly Figure[]> {
  const { requests, print } = options
  await nameErrors(options.databaseUrl)
  const lines = new LinesOracle(ROUTE_LIST.map(({ path }) => path))
  const service = startReplica({
    settings: {
      DATABASE_URL: options.databaseUrl,
      DATA_DIR: options.dataDir,
      ADMIN_TOKENS: `fuzz=${SECRETS.adminToken},reader:read=${SECRETS.readerToken}`,
      HMAC_SECRET: SECRETS.hmacSecret,
      COMMAND_ACTIONS: ACTIONS.join(),
      LOG_LEVEL: 'DEBUG',
      RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    },
    onLine: (line) => lines.line(line),
  })
  const origin = await service.ready
  const world = await createFuzzWorld(origin, SECRETS)
  const send = createSend(origin)
  const scrape = async (): Promise<SeriesFacts> => {
    const headers = jsonHeaders(SECRETS.adminToken)
    const { bytes } = await send({ method: 'GET', path: '/metrics', headers })
    return readSeries(bytes.toString('utf8'), ROUTE_LIST, ACTIONS)
  }
  const probe = startChild<ProbeQuestion, ProbeReply>('./probe.js')
  await probe.ask({ do: 'start', port: Number(new URL(origin).port) })
  const startedAtMs = performance.now()
  const parts: SeriesFacts[] = [await scrape()]
  const scrapes: Promise<void>[] = []
  const report = await runFuzz({
    origin,
    world,
    routes: ROUTE_LIST,
    ...options,
    lines,
    onProgress(sent) {
      if (sent % Math.ceil(requests / PARTS) !== 0) return
      const s = (performance.now() - startedAtMs) / 1_000
      const took = scrape().then((facts) => {
        parts.push(facts)
        print(`${sent} requests, ${s.toFixed(0)} s, ${facts.series} series, ${mib(facts.rssBytes)}`)
      })
      scrapes.push(took)
    },
  })
  const tookS = (performance.now() - startedAtMs) / 1_000
  await Promise.all(scrapes)
  const probes = await probe.ask({ do: 'read' })
  await probe.end()
  parts.push(await scrape())
  const ended = await service.stop()
  lines.finish()
  print(`${JSON.stringify(report.byStatus)}; 5xx: ${JSON.stringify(report.byCode)}`)
  return figuresOf({
    report,
    tookS,
    parts,
    lines,
    ended,
    probes,
    postgres: readErrors(join(options.dir, 'postgres', 'postgres.log')),
  })
}

const mib = (bytes: number) => `${(bytes / MIB).toFixed(0)} MiB`

interface Outcome {
  readonly report: FuzzReport
  readonly tookS: number
  readonly parts: readonly SeriesFacts[]
  readonly lines: LinesOracle
  readonly ended: Ended
  readonly probes: ProbeReply
  readonly postgres: PostgresErrors
}

function figuresOf(outcome: Outcome): readonly Figure[] {
  const { report, tookS, parts, lines, ended, probes, postgres } = outcome
  const { sent, mutated, aborted, answered, further, silent, floods, byStatus, byCode } = report
  const count = (status: number) => byStatus[status] ?? 0
  const last = parts.at(-1)
  const all5xx = Object.entries(byStatus).reduce((sum, [s, n]) => (s < '5' ? sum : sum + n), 0)
  const seriesFaults = parts.flatMap(({ faults }) => faults)
  const list = (faults: readonly string[]) =>
    faults.length === 0 ? 'none' : faults.map((fault) => `\n      ${fault}`).join('')
  return [
    {
      promise:
        'every answer is well formed and explained: 0 × 500, 501 for transfer encodings only',
      measured: `${sent} requests (${mutated} damaged, ${aborted} left unread, ${silent} no whole ones), ${answered} answers and ${further} to what damage had made more of, ${floods} floods in ${tookS.toFixed(0)} s: ${count(500)} × 500, ${count(501)} × 501, ${count(503)} × 503 ${JSON.stringify(byCode)}; faults: ${list(report.faults)}`,
      isHeld: report.faults.length === 0 && answered + aborted + silent === sent && !byStatus[500],
    },
    {
      promise: 'each is counted',
      measured: `http_requests_total ${last?.requests}, of these 5xx ${last?.requests5xx}; answers read ${answered + further}, of these 5xx ${all5xx}`,
      isHeld:
        last !== undefined && last.requests >= answered + further && last.requests5xx >= all5xx,
    },
    {
      promise: 'every log line is valid, and one ends each request',
      measured: `${lines.ended} requests ended in a line; faults: ${list(lines.faults)}`,
      isHeld: lines.faults.length === 0,
    },
    {
      promise: 'the number of series has its bound, every label is known',
      measured: `${parts.map(({ series }) => series).join(', ')}; faults: ${list(seriesFaults)}`,
      isHeld: seriesFaults.length === 0,
    },
    {
      promise: 'no bad input reaches PostgreSQL',
      measured: `its errors by SQLSTATE: ${JSON.stringify(postgres.bySqlstate)}; faults: ${list(postgres.faults)}`,
      isHeld: postgres.faults.length === 0,
    },
    {
      promise: `the event loop is never held up: /healthz within ${MOST_STALL_MS / 1_000} s, from a process that does nothing else`,
      measured: `at worst ${probes.worstMs.toFixed(0)} ms, ${probes.failed} of ${probes.asked} failed`,
      isHeld: probes.worstMs <= MOST_STALL_MS && probes.failed === 0,
      isTimed: probes.failed === 0,
    },
    {
      promise: 'the service lives',
      measured: `exit code ${ended.code} after SIGTERM; resident ${parts.map(({ rssBytes }) => mib(rssBytes)).join(', ')}`,
      isHeld: ended.code === 0,
    },
  ]
}
