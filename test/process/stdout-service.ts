/** The service on a stdout of the test's choice, with an exact account of the lines that it must have written. */
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { type Ended, inShell, type LogNote, launch, logNote } from '../../testkit/service.ts'
import { type CallOptions, call } from '../helpers/client.ts'
import { createDatabase } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { leaksIn } from '../helpers/secrets.ts'
import { ADMIN, MAIN, settings } from '../helpers/service.ts'

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
  end(): Promise<StdoutEnd>
}

/** `signal`: of its own watchdog, SHUTDOWN_GRACE_MS + 0.5 s after the SIGTERM; null: it ended before that. */
export interface StdoutEnd extends Ended {
  /** All lines asked for in its life, but those about drops: one a request, and those of OWN_LINES. */
  readonly emitted: number
  readonly note: LogNote | undefined
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
  const hasTerminal = options.isTerminal === true
  const service = launch({
    settings: {
      ...settings(await createDatabase(t)),
      DATA_DIR: tempDirectory(t),
      LOG_BUFFER_BYTES: '65536',
      ...options.env,
    },
    main: MAIN,
    command: hasTerminal ? inTerminal : inShell(options.shell ?? 'exec "$@"'),
    stdin: 'pipe',
    stdout: options.stdout,
    hasTerminal,
  })
  t.teardown(async () => {
    service.signal('SIGKILL')
    await service.exited
  })

  const origin = await service.origin
  const pid = hasTerminal ? Number(await service.noted(/pid (\d+)\s/)) : service.pid
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
    stdout: service.process.stdout,
    stdin: service.process.stdin,
    shown: service.notes,
    showed: service.noted,
    dropped,
    async serves(t) {
      t.equal((await ask('POST', '/v1/heartbeat', { token, body: { status: 'ok' } })).status, 200)
      t.equal((await ask('GET', '/v1/nowhere')).status, 404)
      const path = `/admin/apk/builds/b${++builds}?version_code=${builds}`
      t.equal((await ask('PUT', path, { raw: makeApk({ versionCode: builds }) })).status, 201)
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
      process.kill(pid, 'SIGTERM')
      const late = setTimeout(END_DEADLINE_MS, undefined, { ref: false })
      const ended = await Promise.race([service.exited, late])
      if (ended === undefined) throw new Error('neither its grace nor its watchdog ended it')
      const { stderr } = service.process
      if (stderr?.readableEnded === false) await once(stderr, 'end')
      return { ...ended, emitted, note: logNote(service) }
    },
  }
}

/** script(1) gives it a terminal: stdin's bytes are its keys. */
function inTerminal(node: readonly string[]): readonly string[] {
  const quoted = node.map((part) => `'${part}'`).join(' ')
  return ['script', '-qec', `echo "pid $$"; exec ${quoted}`, '/dev/null']
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
