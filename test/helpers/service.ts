/** The service as a real process (build/src/main.js) on a database of its own, and a client for it. */

import type { ChildProcess } from 'node:child_process'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { LogBook } from '../../testkit/log-book.ts'
import {
  type Launched,
  type LaunchOptions,
  launch,
  withMaxOpenFiles,
} from '../../testkit/service.ts'
import { type CallOptions, call, type TestResponse } from './client.ts'
import { createDatabase } from './database.ts'
import { tempDirectory } from './directory.ts'

export const ADMIN = 'test-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
/** FLEETLOOP_TEST_MAIN: another build, such as a production install. */
export const MAIN =
  process.env['FLEETLOOP_TEST_MAIN'] ?? fileURLToPath(new URL('../../src/main.js', import.meta.url))

export const HMAC_SECRET = 'test-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n'
const EX_CONFIG = 78

export interface Started extends Launched {
  readonly dataDir: string
  readonly lines: LogBook
}

export interface Running {
  readonly origin: string
  readonly databaseUrl: string
  readonly dataDir: string
  readonly process: ChildProcess
  readonly lines: LogBook
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

/** The process, ready or not; killed at the end of `t`. */
export function launchService(
  t: Test,
  env: Readonly<Record<string, string>>,
  options: Pick<LaunchOptions, 'main' | 'command'> = {},
): Started {
  const dataDir = tempDirectory(t)
  const settings = { DATA_DIR: dataDir, ...env }
  // Without source maps, which take a tenth of a start; those who start it as it ships have them.
  const launched = launch({ main: MAIN, nodeArgs: [], ...options, settings })
  const { stdout } = launched.process
  if (stdout === null) throw new Error('no stdout')
  t.teardown(async () => {
    launched.signal('SIGKILL')
    await launched.ended
  })
  return { ...launched, dataDir, lines: new LogBook(stdout) }
}

export function settings(databaseUrl: string) {
  return {
    DATABASE_URL: databaseUrl,
    ADMIN_TOKENS: `tester=${ADMIN}`,
    HMAC_SECRET,
  }
}

/** Exit code 78 and no request served; returns stderr. */
export async function refused(t: Test, env: Readonly<Record<string, string>>): Promise<string> {
  const { lines, ended, notes } = launchService(t, env)
  const serves = lines
    .waitFor(({ event }) => event === 'service.ready')
    .then(
      () => ({ code: 'it serves' }),
      () => ended,
    )
  t.equal((await Promise.race([ended, serves])).code, EX_CONFIG, notes())
  t.equal(lines.of('service.ready').length, 0)
  t.notMatch(notes(), /\n +at /, 'a message, no stack')
  return notes()
}

/** Started and ready; stopped at the end of `t`. */
export async function startService(t: Test, options: StartOptions = {}): Promise<Running> {
  const databaseUrl = options.databaseUrl ?? (await createDatabase(t))
  const service = launchService(
    t,
    { ...settings(databaseUrl), ...options.env },
    options.maxOpenFiles === undefined ? {} : { command: withMaxOpenFiles(options.maxOpenFiles) },
  )
  const stop = async () => {
    service.signal('SIGTERM')
    const { code } = await service.exited
    service.process.stdout?.resume() // a test may have stopped reading; the rest is searched for secrets too
    await service.ended
    return code
  }
  t.teardown(stop)
  try {
    await service.lines.waitFor((line) => line.event === 'service.ready', 'service.ready')
  } catch (error) {
    throw new Error(`${String(error)}\nstderr:\n${service.notes()}`)
  }
  const origin = await service.origin
  const running: Running = {
    origin,
    databaseUrl,
    dataDir: service.dataDir,
    process: service.process,
    lines: service.lines,
    stderr: service.notes,
    call: (method, path, call_) => call(origin, method, path, { token: ADMIN, ...call_ }),
    stop,
    enroll: (alias, body) => enroll(running, alias, body),
  }
  return running
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

/** Resolves when the service has read what other connections sent before. */
export async function settle(service: Pick<Running, 'call'>): Promise<void> {
  for (let n = 0; n < 20; n += 1) await service.call('GET', '/healthz')
}

/** On a busy machine many enrollments at once may wait too long for each other: 503 is asked again, as everywhere. */
export async function patiently(ask: () => Promise<TestResponse>): Promise<TestResponse> {
  for (;;) {
    const response = await ask()
    if (response.status !== 503) return response
    await wait(1_000 * Number(response.headers.get('retry-after')))
  }
}
