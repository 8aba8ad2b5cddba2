/** `npm run demo` as a process: the loop closes with and without push, nothing is left behind, no secret is shown. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readdirSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { tempDirectory } from '../helpers/directory.ts'

const SEARCHED = fileURLToPath(new URL('../runner/searched-children.js', import.meta.url))
const DEMO = fileURLToPath(new URL('../../sim/demo/main.js', import.meta.url))
const STEPS = [
  '0 start',
  '1 enroll',
  '2 heartbeat',
  '3 command',
  '4 result',
  '5 APK',
  '6 one id',
  '7 what',
]
const POLL_MS = 20
const POLL_DEADLINE_MS = 60_000

interface Demo {
  readonly child: ChildProcess
  /** Its TMPDIR, which nothing else uses. */
  readonly directory: string
  readonly stdout: () => string
  /** The exit code and all of its output. */
  readonly ended: Promise<{ readonly code: number | null; stdout: string; stderr: string }>
}

function startDemo(t: Test, ...args: readonly string[]): Demo {
  const directory = tempDirectory(t)
  chmodSync(directory, 0o755) // PostgreSQL runs as another user where we are root
  // The output of its service is searched for secrets too.
  const node = ['--enable-source-maps', `--import=${SEARCHED}`] as const
  const child = spawn(process.execPath, [...node, DEMO, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], TMPDIR: directory },
  })
  t.teardown(() => child.kill('SIGTERM'))
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const ended = once(child, 'close').then(([code]) => ({ code, stdout, stderr }))
  return { child, directory, stdout: () => stdout, ended }
}

async function pollUntil(holds: () => boolean): Promise<void> {
  const deadlineAtMs = performance.now() + POLL_DEADLINE_MS
  while (!holds()) {
    if (performance.now() > deadlineAtMs) throw new Error('it did not come to pass')
    await wait(POLL_MS)
  }
}

/** The lines of one step, by the start of its title. */
function stepOf(stdout: string, title: string): string {
  return stdout.split('\n== ').find((part) => part.startsWith(title)) ?? ''
}

t.test('with push the loop closes, and one id tells its story', async (t) => {
  const demo = startDemo(t)
  const { code, stdout, stderr } = await demo.ended

  t.equal(code, 0, `exit 0 ${stderr}`)
  t.equal(stderr, '', 'nothing on stderr')
  for (const step of STEPS) t.not(stepOf(stdout, step), '', step)
  t.match(stepOf(stdout, '1 '), /register\.success .* D01 +201/, 'enrolled')
  t.match(stepOf(stdout, '1 '), /401 .*token_exhausted/, 'a single use is one use')
  t.match(stepOf(stdout, '2 '), /\/\/v1\/heartbeat' [\s\S]* heartbeat\.ingest .* D03 +200/)
  t.match(stepOf(stdout, '3 '), /dispatch\.sent .* fcm_http_code=200/, 'pushed')
  t.match(stepOf(stdout, '4 '), /D02: 1 by push, 0 by mailbox, 1 run, 1 reported/)
  t.match(stepOf(stdout, '5 '), /apk\.download .* source=enrollment bytes_sent=1000000/)
  t.match(stepOf(stdout, '5 '), /D01 to D05 checked length and SHA-256: intact/)

  const story = stepOf(stdout, '6 ')
  for (const event of ['dispatch.request', 'dispatch.sent', 'action_result.ingest']) {
    t.match(story, new RegExp(`${event} .*request_id=demo-launch-1`), `${event} carries the id`)
  }
  t.match(story, /timeline .* accepted[\s\S]*timeline .* result +success/)
  t.match(story, /verdict +completed:/)

  const scrape = stepOf(stdout, '7 ')
  t.match(scrape, /fcm_dispatch_latency_ms_count\{action="launch_app"\} 1\n/)
  t.match(scrape, /apk_download_total\{build_type="debug",source="enrollment"\} 5\n/)
  t.match(
    scrape,
    /http_requests_total\{route="\/v1\/heartbeat",method="POST",status_code="200"\} 6/,
  )

  t.notMatch(stdout, /\b(et|dt)_[A-Za-z0-9_-]{20}|sim-push-token/, 'no token is shown')
  t.notMatch(stdout, /"(hmac|hmac2|hmac_key)":"[^.]/, 'no key and no signature is shown')
  t.notMatch(stdout, '\u001b', 'no colours where nobody sees them')
  t.same(readdirSync(demo.directory), [], 'no directory is left')
})

t.test('without push the next heartbeat brings the command', async (t) => {
  const demo = startDemo(t, '--no-push')
  const { code, stdout, stderr } = await demo.ended

  t.equal(code, 0, `exit 0 ${stderr}`)
  t.match(stepOf(stdout, '3 '), /"push":\{"state":"off","attempts":0/)
  t.match(stepOf(stdout, '4 '), /D02: 0 by push, 1 by mailbox, 1 run, 1 reported/)
  t.match(stepOf(stdout, '6 '), /timeline .* delivered[\s\S]*verdict +completed:/)
  t.notMatch(stdout, 'dispatch.sent', 'nothing was pushed')
  t.notMatch(stepOf(stdout, '7 '), 'fcm_dispatch_latency_ms_count', 'no push was observed')
  t.same(readdirSync(demo.directory), [], 'no directory is left')
})

t.test('Ctrl-C while PostgreSQL is being made leaves nothing', async (t) => {
  const demo = startDemo(t, '--no-push')
  const isMaking = () =>
    readdirSync(demo.directory, { recursive: true }).some((name) => /postgres/.test(String(name)))
  await pollUntil(isMaking)
  demo.child.kill('SIGINT')
  const { code, stdout, stderr } = await demo.ended

  t.equal(code, 130, 'the exit code of a Ctrl-C')
  t.match(stderr, 'stopped by SIGINT')
  t.match(stdout, 'the service ended with exit code 0')
  t.notMatch(stdout, '1 enroll', 'the walk does not begin')
  t.same(readdirSync(demo.directory), [], 'no directory is left')
})

t.test('Ctrl-C once the walk has begun leaves nothing', async (t) => {
  const demo = startDemo(t)
  await pollUntil(() => demo.stdout().includes('1 enroll'))
  demo.child.kill('SIGINT')
  const { code, stdout } = await demo.ended

  t.equal(code, 130, 'the exit code of a Ctrl-C')
  t.match(stdout, 'the service ended with exit code 0')
  t.same(readdirSync(demo.directory), [], 'no directory is left')
})

t.test('an option that it does not know is refused', async (t) => {
  const { code, stderr } = await startDemo(t, '--no-psuh').ended
  t.equal(code, 1)
  t.match(stderr, '--no-psuh')
})
