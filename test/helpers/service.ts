/** The service as a real process (build/src/main.js) on a database of its own, and a client for it. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { type CallOptions, call, type TestResponse } from './client.ts'
import { createDatabase } from './database.ts'
import { tempDirectory } from './directory.ts'
import { Lines } from './lines.ts'

export const ADMIN = 'test-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
/** FLEETLOOP_TEST_MAIN: another build, such as a production install. */
export const MAIN =
  process.env['FLEETLOOP_TEST_MAIN'] ?? fileURLToPath(new URL('../../src/main.js', import.meta.url))

export interface Running {
  readonly origin: string
  readonly databaseUrl: string
  readonly dataDir: string
  readonly process: ChildProcess
  readonly lines: Lines
  /** All of stderr so far. */
  readonly stderr: () => string
  /** One request with the admin's token, or another, or none. */
  call(method: string, path: string, options?: CallOptions): Promise<TestResponse>
  /** SIGTERM, then the exit code. Repeatable. */
  stop(): Promise<number | null>
  /** A device enrolled through the API, with a token bound to its alias. */
  enroll(alias: string, body?: Readonly<Record<string, unknown>>): Promise<Enrolled>
}

export interface Enrolled {
  readonly deviceId: string
  readonly token: string
  readonly hmacKey: string
  readonly enrollmentToken: string
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>
  /** Another replica on the database of a running one. */
  readonly databaseUrl?: string
  /** Set by `ulimit -n`; default: as we have it. */
  readonly maxOpenFiles?: number
}

/** Started and ready; stopped at the end of `t`. */
export async function startService(t: Test, options: StartOptions = {}): Promise<Running> {
  const databaseUrl = options.databaseUrl ?? (await createDatabase(t))
  const dataDir = tempDirectory(t)
  const env = {
    PATH: process.env['PATH'],
    PORT: '0',
    DATABASE_URL: databaseUrl,
    DATA_DIR: dataDir,
    ADMIN_TOKENS: `tester=${ADMIN}`,
    HMAC_SECRET: 'test-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n',
    ...options.env,
  }
  const [file, args] = commandOf(options.maxOpenFiles)
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env })
  let stderr = ''
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (text: string) => {
    stderr += text
  })
  const lines = new Lines(child.stdout)
  // Where the test itself breaks, no teardown runs.
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))
  const exited = once(child, 'exit')
  const closed = once(child, 'close')
  const stop = async () => {
    child.kill('SIGTERM')
    const [code] = await exited
    child.stdout.resume() // a test may have stopped reading; the rest is searched for secrets too
    await closed
    return code as number | null // 'exit' gives the code first
  }
  t.teardown(stop)
  try {
    await lines.waitFor((line) => line.event === 'service.ready', 'service.ready')
  } catch (error) {
    throw new Error(`${String(error)}\nstderr:\n${stderr}`)
  }
  const origin = /listening on (\S+)/.exec(stderr)?.[1] ?? ''
  const running: Running = {
    origin,
    databaseUrl,
    dataDir,
    process: child,
    lines,
    stderr: () => stderr,
    call: (method, path, call_) => call(origin, method, path, { token: ADMIN, ...call_ }),
    stop,
    enroll: (alias, body) => enroll(running, alias, body),
  }
  return running
}

function commandOf(maxOpenFiles: number | undefined): readonly [string, string[]] {
  const args = ['--enable-source-maps', MAIN]
  if (maxOpenFiles === undefined) return [process.execPath, args]
  return ['sh', ['-c', `ulimit -n ${maxOpenFiles} && exec "$@"`, 'sh', process.execPath, ...args]]
}

async function enroll(
  service: Running,
  alias: string,
  body: Readonly<Record<string, unknown>> = {},
): Promise<Enrolled> {
  const aliases = { body: { aliases: [alias] } }
  const made = await patiently(() => service.call('POST', '/v1/enroll-tokens', aliases))
  const enrollmentToken: string = made.body.tokens[0].token
  const credential = { token: enrollmentToken, body }
  const registered = await patiently(() => service.call('POST', '/v1/register', credential))
  if (registered.status !== 201 && registered.status !== 200) {
    throw new Error(`registration answered ${registered.status} ${registered.text}`)
  }
  return {
    deviceId: registered.body.device_id,
    token: registered.body.device_token,
    hmacKey: registered.body.hmac_key,
    enrollmentToken,
  }
}

/** On a busy machine many enrollments at once may wait too long for each other: 503 is asked again, as everywhere. */
async function patiently(ask: () => Promise<TestResponse>): Promise<TestResponse> {
  for (;;) {
    const response = await ask()
    if (response.status !== 503) return response
    await wait(1_000 * Number(response.headers.get('retry-after')))
  }
}
