/**
 * `npm run simulate` as a process against a real service: what it counts is what the service counts, exactly (R12),
 * and what it acknowledges is in the database.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { readJournal } from '../../sim/load/journal.ts'
import { differences, seriesOfPage } from '../../sim/simulate/expected-metrics.ts'
import { startSimulatedFcm } from '../../sim/simulate/fcm.ts'
import type { Summary } from '../../sim/simulate/summary.ts'
import { freePort } from '../../testkit/listen.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { listenFor } from '../helpers/listen.ts'
import { ADMIN, type Running, startService } from '../helpers/service.ts'

const SIMULATE = fileURLToPath(new URL('../../sim/simulate/main.js', import.meta.url))

interface Run {
  readonly child: ChildProcess
  readonly stderr: () => string
  readonly ended: Promise<{ readonly code: number | null; readonly stdout: string }>
}

function simulate(t: Test, ...args: readonly string[]): Run {
  return simulateAs(t, {}, ...args)
}

function simulateAs(
  t: Test,
  env: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Run {
  const child = spawn(process.execPath, ['--enable-source-maps', SIMULATE, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], ADMIN_TOKEN: ADMIN, ...env },
  })
  t.teardown(() => child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const ended = once(child, 'close').then(([code]) => ({ code, stdout }))
  return { child, stderr: () => stderr, ended }
}

function tempDir(t: Test): string {
  const path = tempDirectory(t)
  return path
}

const publishApk = (service: Running) =>
  service.call('PUT', '/admin/apk/builds/sim-1?version_code=1&version_name=1', {
    raw: makeApk({ sizeBytes: 100_000, versionName: '1' }),
  })

/** The service counts a request when its answer is out, which the client may read first: asked until it agrees. */
async function assertTruth(t: Test, service: Running, summary: Summary): Promise<void> {
  let wrong: readonly string[] = []
  await until(async () => {
    const { text } = await service.call('GET', '/metrics')
    wrong = differences(summary, seriesOfPage(text))
    return wrong.length === 0
  }).catch(() => {})
  t.same(wrong, [], 'every counter is the ground truth')
  const { heartbeats } = summary
  t.equal(heartbeats.stored + heartbeats.deduped, heartbeats.acknowledged)
}

t.test('by the mailbox alone every counter is the ground truth', async (t) => {
  const service = await startService(t)
  await publishApk(service)
  const journalPath = join(tempDir(t), 'journal')
  const run = simulate(
    t,
    ...['--url', service.origin, '--devices', '12', '--interval', '0.5', '--heartbeats', '3'],
    ...['--commands', '40', '--commands-per-minute', '6000', '--never', '0', '--late', '0.2'],
    ...['--late-by', '1', '--twice', '0.2', '--apk-share', '1', '--journal', journalPath],
  )
  const { code, stdout } = await run.ended
  t.equal(code, 0, run.stderr())
  const summary: Summary = JSON.parse(stdout)

  t.match(summary, { ok: true, faults: [], ended_by: 'heartbeats', fcm: null })
  t.same(summary.phones, { asked: 12, enrolled: 12, wiped: 0 })
  t.match(summary.commands, {
    ...{ created: 40, accepted: 40, completed: 40, open: 0, lost: 0, unreadable: 0 },
    ...{ run: 40, run_by_mailbox: 40, run_by_push: 0, run_twice: 0 },
  })
  t.same(summary.queues, { waiting: 0, lost: 0 })
  t.equal(summary.downloads.enrollment, 12, 'each phone fetched the APK')
  t.equal(summary.downloads.bytes, 100_000 * (12 + summary.downloads.ota))
  await assertTruth(t, service, summary)

  const journal = readJournal(journalPath).map((line) => JSON.parse(line))
  const idsOf = (kind: string) => journal.filter((fact) => fact.kind === kind)
  t.equal(idsOf('heartbeat').length, summary.heartbeats.acknowledged)
  t.equal(idsOf('command').length, 40)
  t.equal(new Set(idsOf('result').map(({ id }) => id)).size, 40)
  const db = await connect(t, service.databaseUrl)
  const stored = await db.query('select request_id from heartbeats order by request_id')
  t.same(
    stored.rows.map((row) => row.request_id),
    idsOf('heartbeat')
      .filter(({ deduped }) => !deduped)
      .map(({ id }) => id)
      .sort(),
    'the acknowledged heartbeats that were no repeats are the rows',
  )
  t.match(run.stderr(), /commands +40 created, 40 accepted, 0 refused: 40 completed/)
  t.match(run.stderr(), 'nothing lost, nothing run twice, no phone wiped')
})

t.test('with the stand-in for FCM pushes reach the phones', async (t) => {
  // A run that ends at once leaves the account that the service starts with.
  const fcmAccount = join(tempDir(t), 'deep', 'account.json')
  const { push, environment } = await startSimulatedFcm(await freePort(), fcmAccount)
  const { port } = new URL(push.baseUrl)
  await push.close()
  const service = await startService(t, {
    env: {
      ...Object.fromEntries(environment.map((line) => line.split('=', 2) as [string, string])),
      FCM_SELF_TEST: 'false', // the stand-in is not there yet
    },
  })
  const key = readFileSync(fcmAccount, 'utf8')
  const run = simulate(
    t,
    ...['--url', service.origin, '--devices', '6', '--interval', '1', '--heartbeats', '2'],
    ...['--commands', '20', '--commands-per-minute', '6000', '--late', '0', '--never', '0'],
    ...['--fcm', port, '--fcm-account', fcmAccount, '--actions', 'ring,ping', '--sign-results'],
  )
  const { code, stdout } = await run.ended
  t.equal(code, 0, run.stderr())
  const summary: Summary = JSON.parse(stdout)
  t.equal(readFileSync(fcmAccount, 'utf8'), key, 'the account stays from run to run')
  t.match(
    run.stderr(),
    `GOOGLE_APPLICATION_CREDENTIALS=${fcmAccount}\nFCM_BASE_URL=${push.baseUrl}`,
  )
  t.match(summary.commands, { created: 20, completed: 20, run: 20, run_twice: 0, lost: 0 })
  const { by_push: delivered } = summary.messages
  t.match(summary.fcm, { sends: delivered, delivered }, 'what was sent has arrived')
  t.ok(summary.commands.run_by_push > 0)
  await assertTruth(t, service, summary)
})

t.test(
  'silent and expired commands are told apart from lost ones; runs repeat on one service',
  async (t) => {
    const signing = { ADMIN_HMAC_SECRET: 'sign-Qd8vXr2kWz9mBt4sLh7cYp3n' }
    const service = await startService(t, { env: signing })
    const args = [
      ...['--url', service.origin, '--devices', '3', '--interval', '0.2', '--heartbeats', '2'],
      ...['--commands', '5', '--commands-per-minute', '6000', '--never', '1', '--late', '0'],
      ...['--twice', '0'],
    ]
    for (const _ of ['once', 'and again']) {
      const run = simulateAs(t, signing, ...args)
      const { code, stdout } = await run.ended
      t.equal(code, 0, run.stderr())
      const { commands, results }: Summary = JSON.parse(stdout)
      t.match(commands, {
        accepted: 5,
        run: 5,
        completed: 0,
        open: 5,
        lost: 0,
        planned: { never: 5 },
      })
      t.equal(results.acknowledged, 0)
    }
  },
)

t.test('Ctrl-C ends it with the summary, also where npm sends it twice', async (t) => {
  const service = await startService(t)
  const run = simulate(t, '--url', service.origin, '--devices', '3', '--interval', '0.2')
  await service.lines.waitFor(({ event }) => event === 'heartbeat.ingest')
  run.child.kill('SIGINT')
  run.child.kill('SIGINT')
  const { code, stdout } = await run.ended
  t.equal(code, 0, run.stderr())
  t.match(JSON.parse(stdout), { ok: true, ended_by: 'signal', phones: { enrolled: 3 } })
})

t.test('a service that answers 401 wipes the phones, and the exit code says so', async (t) => {
  const service = createServer((req, res) => {
    req.resume()
    const responses: Readonly<Record<string, readonly [number, unknown]>> = {
      '/readyz': [200, {}],
      '/v1/enroll-tokens': [201, { tokens: [{ token: 'et' }] }],
      '/v1/register': [201, { device_id: 'd', device_token: 'dt', hmac_key: 'k' }],
    }
    const [status, body] = responses[req.url ?? ''] ?? [401, { code: 'token_unknown' }]
    req.on('end', () => res.writeHead(status).end(JSON.stringify(body)))
  })
  const port = await listenFor(t, service)
  const run = simulate(
    t,
    ...['--url', `http://127.0.0.1:${port}`, '--devices', '1', '--interval', '0.1'],
    ...['--heartbeats', '1', '--commands-per-minute', '0'],
  )
  const { code, stdout } = await run.ended
  t.equal(code, 1)
  t.match(JSON.parse(stdout), { ok: false, phones: { wiped: 1, enrolled: 1 } })
  t.match(run.stderr(), 'FAULT: phones wiped by five 401s in a row: 1')
})

t.test('what cannot begin says why', async (t) => {
  const service = await startService(t)
  const refused = simulateAs(t, { ADMIN_TOKEN: 'wrong' }, '--url', service.origin)
  t.equal((await refused.ended).code, 1)
  t.match(refused.stderr(), /enrollment tokens were answered with 401 \w+/)
  await service.stop()
  const away = simulate(t, '--url', service.origin, '--wait', '0')
  t.equal((await away.ended).code, 1)
  t.match(away.stderr(), /readyz is not ready after 0 s: connect ECONNREFUSED/)
  const wrong = simulate(t, '--devices', 'many')
  t.equal((await wrong.ended).code, 64)
  t.match(wrong.stderr(), 'simulate: --devices is a whole number from 1 to 100000, not "many"')
  const help = simulate(t, '--help')
  const { code, stdout } = await help.ended
  t.equal(code, 0)
  t.match(stdout, 'npm run simulate')
})
