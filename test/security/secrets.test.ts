/**
 * R11 and R12 over one small simulation: no secret stands in a log line, an answer or a database column (the answer that
 * hands it out and the push token's column excepted), and the counters equal what was done, exactly.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type pg from 'pg'
import t from 'tap'
import type { Exchange } from '../../sim/demo/recorder.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import { bodyOf, type JsonObject } from '../../testkit/http/client.ts'
import { connect } from '../helpers/database.ts'
import { leaksIn, rememberedSecrets } from '../helpers/secrets.ts'
import { liveWholeLoop } from '../helpers/whole-loop.ts'
import { searchedBytes } from '../runner/searched-children.ts'

const SEARCHED = fileURLToPath(new URL('../runner/searched-children.js', import.meta.url))
/** The one-time answers, and what they hand out. */
const HANDED_OUT: Readonly<Record<string, RegExp>> = {
  '/v1/enroll-tokens': /"token":"[^"]+"/g,
  '/v1/register': /"(device_token|hmac_key)":"[^"]+"/g,
}
/** Factories only keep what they are given, so the table can be made without a service. */
const TEMPLATES = ROUTE_LIST.map(({ path }) => path)

const { service, fcm, fleet, exchanges } = await liveWholeLoop(t)
const db = await connect(t, service.databaseUrl)

t.test('the simulation did all that is judged below', async (t) => {
  const statuses = new Set(exchanges.map(({ answer: response }) => response.status))
  for (const status of [200, 201, 202, 204, 206, 400, 401, 403, 404, 410, 422]) {
    t.ok(statuses.has(status), `an answer ${status}`)
  }
  const { counts } = fleet.report()
  t.ok(counts.commandsByPush >= 4 && counts.commandsByMailbox >= 1 && counts.commandsRun >= 6)
  t.ok(rememberedSecrets().length > 40, `${rememberedSecrets().length} secrets are known`)
})

t.test('no secret stands in a log line', async (t) => {
  t.same(leaksIn(service.lines.text), [])
  t.same(leaksIn(service.stderr()), [])
})

t.test('secrets and process warnings are found when the test file ends', async (t) => {
  t.ok(searchedBytes() > service.lines.text.length, 'here, too')
  const secret = 'planted-'.repeat(4)
  const warn = 'process.emitWarning("planted")'
  const [leak, warning] = ['secrets stand in what this wrote', 'a process warning: ']
  const parents = {
    silent: [`spawn(process.execPath, ['-e', ''], { env: { HMAC_SECRET: '${secret}' } })`, ''],
    'on stdout': [childSaying('stdout', secret), leak],
    'on stderr': [childSaying('stderr', secret), leak],
    'a token of ours': [childSaying('stderr', `dt_${'p'.repeat(43)}`), leak],
    'a warning of its own': [warn, warning],
    'of a child': [`spawn(process.execPath, ['-e', '${warn}'], { env: {} })`, warning],
    'of a child it waits for': [`spawnSync(process.execPath, ['-e', '${warn}'])`, warning],
    'no warning': [`spawn(process.execPath, ['-e', 'console.log("(node:1) Warning: no")'])`, ''],
  } as const
  for (const [title, [code, found]] of Object.entries(parents)) {
    const script = `import { spawn, spawnSync } from 'node:child_process'; ${code}`
    const args = [`--import=${SEARCHED}`, '--input-type=module', '--eval', script]
    // What it printed itself would be a warning to this file, too.
    const env = { NODE_NO_WARNINGS: code === warn ? '1' : '' }
    const ended = spawnSync(process.execPath, args, { encoding: 'utf8', env })
    t.equal(ended.status, found === '' ? 0 : 1, `${title}: ${ended.stderr}`)
    t.match(ended.stderr, found)
  }
})

t.test('no secret stands in an answer, but where it is handed out', async (t) => {
  for (const { request, answer: response } of exchanges) {
    const text = `${JSON.stringify(response.headers)} ${response.bytes.toString('utf8')}`
    const isSuccess = response.status < 300 && request.method === 'POST'
    const handedOut = isSuccess ? HANDED_OUT[request.path] : undefined
    const rest = handedOut === undefined ? text : text.replace(handedOut, '')
    const leaks = leaksIn(rest)
    if (leaks.length > 0) t.same(leaks, [], `${request.method} ${request.path} ${response.status}`)
  }
  const [issued] = exchanges.filter(({ request }) => request.path === '/v1/enroll-tokens')
  t.not(leaksIn(issued?.answer.bytes.toString('utf8') ?? '').length, 0, 'it finds what there is')
})

t.test('no secret stands in a message to FCM, but the push token that it goes to', async (t) => {
  t.ok(fcm.journal.length > 5)
  t.same(leaksIn(JSON.stringify(fcm.journal.map(({ data, android }) => [data, android]))), [])
})

t.test('no secret stands in the database, but hashes and the push token', async (t) => {
  const { rows } = await db.query(`select tablename from pg_tables where schemaname = 'public'`)
  t.ok(rows.length > 10)
  for (const { tablename } of rows) {
    const text = await dump(db, tablename, 'fcm_token')
    t.same(leaksIn(text, 'hashes'), [], `${tablename}, ${text.length} characters`)
  }
  t.not(leaksIn(await dump(db, 'devices'), 'hashes').length, 0, 'it finds what there is')
})

t.test('the counters equal what was done', async (t) => {
  const scrape = await service.call('GET', '/metrics')
  const samples = samplesOf(scrape.text)
  const family = (name: string) =>
    [...samples].flatMap(([series, value]) =>
      series.replace(/\{.*/, '') === name && value > 0 ? [[series, value] as const] : [],
    )

  const requests = count(exchanges.map(requestSeries))
  t.same(Object.fromEntries(family('http_requests_total')), requests, 'requests')
  const observed = count(exchanges.map(({ request }) => `{route="${templateOf(request.path)}"}`))
  t.same(
    Object.fromEntries(family('http_request_latency_ms_count')),
    prefixed('http_request_latency_ms_count', observed),
    'latencies',
  )

  const beats = exchanges.filter(
    ({ request, answer: response }) =>
      templateOf(request.path) === '/v1/heartbeat' && response.status === 200,
  )
  const deduped = beats.filter(
    ({ answer: response }) => bodyOf(response)['deduped'] === true,
  ).length
  t.ok(deduped > 0)
  t.equal(samples.get('heartbeats_ingested_total'), beats.length - deduped)
  t.equal(samples.get('heartbeats_dedup_hits_total'), deduped)
  t.same((await db.query('select count(*)::int from heartbeats')).rows, [
    { count: beats.length - deduped },
  ])

  const sends = count(fcm.journal.map(({ data }) => `{action="${data['action']}"}`))
  t.same(
    Object.fromEntries(family('fcm_dispatch_latency_ms_count')),
    prefixed('fcm_dispatch_latency_ms_count', sends),
    'one observation per attempt at FCM',
  )
  t.equal(fcm.journal.length, fcm.requests.send)

  const byHand = 'apk_download_total{build_type="debug",source='
  t.same(
    Object.fromEntries(family('apk_download_total')),
    { [`${byHand}"enrollment"}`]: 6, [`${byHand}"ota"}`]: 1 },
    'six with enrollment tokens, one with its own; the part is none',
  )
  const completed = 'select count(*)::int from apk_download_events where completed'
  t.same((await db.query(completed)).rows, [{ count: 7 }])
})

/** A child with that setting, which it prints. */
function childSaying(stream: 'stdout' | 'stderr', secret: string): string {
  const says = `process.${stream}.write(process.env.HMAC_SECRET)`
  return `spawn(process.execPath, ['-e', '${says}'], { env: { HMAC_SECRET: '${secret}' } })`
}

function samplesOf(page: string): ReadonlyMap<string, number> {
  const samples = page.split('\n').filter((line) => line !== '' && line[0] !== '#')
  return new Map(
    samples.map((line) => {
      const space = line.lastIndexOf(' ')
      return [line.slice(0, space), Number(line.slice(space + 1))]
    }),
  )
}

function requestSeries({ request, answer: response }: Exchange): string {
  const code = response.status < 300 ? '200' : `${Math.floor(response.status / 100)}xx`
  return `http_requests_total{route="${templateOf(request.path)}",method="${request.method}",status_code="${code}"}`
}

function templateOf(path: string): string {
  const plain = path.replace(/\?.*/, '').replace(/\/{2,}/g, '/')
  const fits = (template: string) =>
    new RegExp(`^${template.replace(/\{\w+\}/g, '[^/]+')}$`).test(plain)
  return TEMPLATES.includes(plain) ? plain : (TEMPLATES.find(fits) ?? 'unmatched')
}

function count(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

function prefixed(prefix: string, counts: Readonly<Record<string, number>>) {
  return Object.fromEntries(Object.entries(counts).map(([name, n]) => [prefix + name, n]))
}

/** Every row of a table as text, one column left out. */
async function dump(client: pg.Client, table: string, without = ''): Promise<string> {
  const text = `select to_jsonb(t) - $1 as row from ${client.escapeIdentifier(table)} t`
  const { rows } = await client.query<{ row: JsonObject }>(text, [without])
  return rows.map(({ row }) => JSON.stringify(row)).join('\n')
}
