/** The service on a stdout of the test's choice, with an exact account of the lines that it must have written. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { type CallOptions, call } from '../helpers/client.ts'
import { createDatabase } from '../helpers/database.ts'
import { leaksIn } from '../helpers/secrets.ts'
import { ADMIN } from '../helpers/service.ts'

const MAIN =
  process.env['FLEETLOOP_TEST_MAIN'] ?? fileURLToPath(new URL('../../src/main.js', import.meta.url))

/** service.start, partition.create, service.ready and, at the end, service.stop. */
const OWN_LINES = 4
/** An enrollment's two requests write five lines. */
const EXTRA_ENROLLMENT_LINES = 3
/** apk.publish */
const EXTRA_UPLOAD_LINES = 1
/** Long, so that few lines fill ring and pipe. */
const USER_AGENT = 'a'.repeat(256)
const PROBE_MS = 150
/** Far more than SHUTDOWN_GRACE_MS and its watchdog. */
const END_DEADLINE_MS = 60_000
const AT_A_TIME = 50
const MOST_REQUESTS = 20_000

export interface StdoutService {
  /** Where it is 'pipe'; that of script(1) with a terminal, as is stdin. */
  readonly stdout: Readable | null
  readonly stdin: Writable | null
  /** stderr so far; with a terminal all that it showed. */
  shown(): string
  /** A heartbeat is stored, an unknown path refused, and an upload taken, which needs a thread of the pool. */
  serves(t: Test): Promise<void>
  /** Requests until lines are dropped. */
  flood(): Promise<void>
  /** What stderr, or the terminal, shows next or has shown: the first group of `pattern`. */
  showed(pattern: RegExp): Promise<string>
  /** Lines dropped so far, by the metric. */
  dropped(): Promise<number>
  /** Ends by SIGTERM; rejects where it does not. `note`: what it said of lines that nobody got, else none were dropped. */
  end(): Promise<Ended>
}

export interface Ended {
  readonly code: number | null
  /** Of its own watchdog, SHUTDOWN_GRACE_MS + 0.5 s after the SIGTERM; null: it came to its end before that. */
  readonly signal: string | null
  /** All lines asked for in its life, but those about drops: one a request, and those of OWN_LINES. */
  readonly emitted: number
  readonly note: { readonly written: number; readonly dropped: number } | undefined
}

export interface StdoutOptions {
  readonly stdout: number | 'pipe'
  /** A shell line where "$@" is the service; it must exec it. */
  readonly shell?: string
  /** script(1) gives it a terminal: stdin's bytes are its keys, stdout what it shows. */
  readonly isTerminal?: boolean
  readonly env?: Readonly<Record<string, string>>
}

/** Ready, with one device enrolled; killed at the end of `t`. */
export async function startOn(t: Test, options: StdoutOptions): Promise<StdoutService> {
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-data-'))
  const [command, args] = commandOf(options)
  const env = {
    PATH: process.env['PATH'],
    PORT: '0',
    DATABASE_URL: await createDatabase(t),
    DATA_DIR: dataDir,
    ADMIN_TOKENS: `tester=${ADMIN}`,
    HMAC_SECRET: 'test-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n',
    LOG_BUFFER_BYTES: '65536',
    ...options.env,
  }
  const child = spawn(command, args, { stdio: ['pipe', options.stdout, 'pipe'], env })
  const exited = once(child, 'exit')
  const { stdout, stderr, stdin } = child
  // A terminal shows both. The output of any other stdout is the test's alone.
  const heard = hear(options.isTerminal === true ? [stdout, stderr] : [stderr], exited)
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await exited
    rmSync(dataDir, { recursive: true, force: true })
  })

  const origin = await heard.match(/listening on (\S+)\s/)
  const pid = options.isTerminal === true ? Number(await heard.match(/pid (\d+)\s/)) : child.pid
  let emitted = OWN_LINES
  const ask = (method: string, path: string, { headers, ...rest }: CallOptions = {}) => {
    emitted++
    const userAgent = { 'user-agent': USER_AGENT }
    return call(origin, method, path, {
      token: ADMIN,
      headers: { ...userAgent, ...headers },
      ...rest,
    })
  }

  // A 503 is a line, up to ten a second; the 200 is DEBUG, which is not written.
  while ((await call(origin, 'GET', '/readyz')).status !== 200) {
    emitted++
    await setTimeout(PROBE_MS)
  }
  const made = await ask('POST', '/v1/enroll-tokens', { body: { aliases: ['D1'] } })
  const registered = await ask('POST', '/v1/register', {
    token: made.body.tokens[0].token,
    body: {},
  })
  emitted += EXTRA_ENROLLMENT_LINES
  const token: string = registered.body.device_token

  let builds = 0

  async function dropped(): Promise<number> {
    const page = (await ask('GET', '/metrics')).text
    const series = page.matchAll(/^fleetloop_log_lines_dropped_total\{.*\} (\d+)$/gm)
    return [...series].reduce((sum, [, value]) => sum + Number(value), 0)
  }

  return {
    stdout,
    stdin,
    shown: heard.text,
    showed: heard.match,
    dropped,
    async serves(t) {
      t.equal((await ask('POST', '/v1/heartbeat', { token, body: { status: 'ok' } })).status, 200)
      t.equal((await ask('GET', '/v1/nowhere')).status, 404)
      const path = `/admin/apk/builds/b${++builds}?version_code=${builds}`
      t.equal((await ask('PUT', path, { raw: makeApk() })).status, 201)
      emitted += EXTRA_UPLOAD_LINES
    },
    async flood() {
      for (let sent = 0; sent < MOST_REQUESTS; sent += AT_A_TIME) {
        // Refused after the admin is proven: a line each.
        const some = Array.from({ length: AT_A_TIME }, () => ask('GET', '/admin/audit?limit=none'))
        await Promise.all(some)
        if ((await dropped()) > 0) return
      }
      throw new Error('no line was dropped')
    },
    async end() {
      if (pid !== undefined) process.kill(pid, 'SIGTERM')
      const late = setTimeout(END_DEADLINE_MS, [], { ref: false })
      const [code, signal] = await Promise.race([exited, late])
      if (code === undefined) throw new Error('neither its grace nor its watchdog ended it')
      if (stderr?.readableEnded === false) await once(stderr, 'end')
      const [, written, lost] = /log: (\d+) lines written, (\d+) dropped/.exec(heard.text()) ?? []
      const note = { written: Number(written), dropped: Number(lost) }
      return { code, signal, emitted, note: written === undefined ? undefined : note }
    },
  }
}

/** Gathers what these say; `match` waits for the first group of a pattern, or for `exited`. */
function hear(streams: readonly (Readable | null)[], exited: Promise<unknown>) {
  let said = ''
  const watchers = new Set<() => void>()
  for (const stream of streams) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said += text
      for (const watch of watchers) watch()
    })
  }
  return {
    text: () => said,
    match: (pattern: RegExp) =>
      new Promise<string>((resolve, reject) => {
        const watch = () => {
          const found = pattern.exec(said)?.[1]
          if (found !== undefined) resolve(found)
        }
        watchers.add(watch)
        watch()
        exited.then(() => reject(new Error(`it ended without ${pattern}: ${said}`)), reject)
      }),
  }
}

function commandOf({ shell, isTerminal }: StdoutOptions): [string, string[]] {
  const program = [process.execPath, '--enable-source-maps', MAIN] as const
  if (isTerminal !== true) {
    return ['/bin/sh', ['-c', shell ?? 'exec "$@"', 'sh', ...program]]
  }
  const quoted = program.map((part) => `'${part}'`).join(' ')
  return ['script', ['-qec', `echo "pid $$"; exec ${quoted}`, '/dev/null']]
}

/**
 * What a reader got of a log: its lines, those about drops apart, and the sum of what these say. Throws on a secret: it
 * came through no pipe of a child, where searched-children.ts would have seen it.
 */
export function accountOf(text: string) {
  const leaks = leaksIn(text)
  if (leaks.length > 0) throw new Error(`secrets in the log:\n${leaks.join('\n')}`)
  const lines = text.split(/\r?\n/).filter((line) => line.startsWith('{"ts"') && line.endsWith('}'))
  const records = lines.map((line): Record<string, unknown> => JSON.parse(line))
  const reports = records.filter(({ event }) => event === 'log.dropped')
  return {
    lines: records.length - reports.length,
    reported: reports.reduce((sum, { dropped }) => sum + Number(dropped), 0),
    last: records.at(-1)?.['event'],
  }
}
