/** A real Prometheus (Debian package `prometheus`): queries, and its tool's verdict on a page. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../testkit/listen.ts'
import { until } from '../../testkit/until.ts'

export const CONFIG_FILE = 'prometheus.yml'
export const TOKEN_FILE = 'fleetloop-token'
/** Another process may take the free port first. */
const PORT_TRIES = 5

export interface Sample {
  readonly metric: Readonly<Record<string, string>>
  readonly value: string
}

export interface Prometheus {
  readonly origin: string
  /** The instant vector of a PromQL query. */
  query(text: string): Promise<readonly Sample[]>
  /** As `query`, once it is not empty: after a failed scrape a series is gone. */
  answer(text: string): Promise<readonly Sample[]>
  stop(): Promise<void>
}

/** What is not installed, and how to install it; false if nothing is missing. */
export function missingTools(): string | false {
  const missing = ['prometheus', 'promtool'].filter((tool) => spawnSync(tool, ['--version']).error)
  return (
    missing.length > 0 &&
    `needs ${missing.join(' and ')}: apt-get install prometheus (.ci/run does)`
  )
}

/** Scrapes `target` (host:port) once a second with a bearer token. */
export function writeConfig(directory: string, target: string, token: string): void {
  writeFileSync(
    join(directory, CONFIG_FILE),
    `global:
  scrape_interval: 1s
scrape_configs:
  - job_name: fleetloop
    authorization:
      credentials_file: ${TOKEN_FILE}
    static_configs:
      - targets: ['${target}']
`,
  )
  writeFileSync(join(directory, TOKEN_FILE), token)
}

/** Starts with the configuration in `directory`. */
export async function startPrometheus(directory: string): Promise<Prometheus> {
  for (let tries = 1; ; tries += 1) {
    const address = `127.0.0.1:${await freePort()}`
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(directory, CONFIG_FILE)}`,
        `--storage.tsdb.path=${join(directory, 'tsdb')}`,
        `--web.listen-address=${address}`,
      ],
      { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] },
    )
    // If its user breaks, nobody else ends it.
    const kill = () => child.kill('SIGKILL')
    process.once('exit', kill)
    child.once('exit', () => process.off('exit', kill))
    const said = await notesUntilReady(child)
    if (said === 'ready') return prometheusAt(`http://${address}`, child)
    if (tries === PORT_TRIES || !said.includes('address already in use')) {
      throw new Error(`prometheus does not start:\n${said}`)
    }
  }
}

function prometheusAt(origin: string, child: ChildProcess): Prometheus {
  const query = async (text: string): Promise<readonly Sample[]> => {
    const response = await fetch(`${origin}/api/v1/query?query=${encodeURIComponent(text)}`)
    const { status, data } = Object(await response.json())
    if (status !== 'success') throw new Error(`${text}: ${response.status}`)
    return data.result.map((one: { metric: Sample['metric']; value: [number, string] }) => ({
      metric: one.metric,
      value: one.value[1],
    }))
  }
  return {
    origin,
    query,
    async answer(text) {
      let response: readonly Sample[] = []
      await until(async () => {
        response = await query(text)
        return response.length > 0
      })
      return response
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGTERM')
      await exited
    },
  }
}

/** Advice against milliseconds in the owner's names; Prometheus prefers seconds. */
const UNIT_ADVICE =
  /^(http_request_latency_ms|fcm_dispatch_latency_ms|fleetloop_push_delay_ms|fleetloop_event_loop_delay_p99_ms) (use base unit "seconds" instead of "milliseconds"|metric names should not contain abbreviated units)$/

/** What `promtool check metrics` reports about a page, apart from that advice. */
export function complaintsAbout(page: string): readonly string[] {
  const how = { input: page, encoding: 'utf8' } as const
  const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], how)
  return `${stdout}${stderr}`.split('\n').filter((line) => line !== '' && !UNIT_ADVICE.test(line))
}

/** Resolves with `ready`, or with all output if it ends before. */
async function notesUntilReady(child: ChildProcess): Promise<string> {
  let text = ''
  const ready = new Promise<string>((resolve) => {
    child.stderr?.setEncoding('utf8').on('data', (more: string) => {
      text += more
      if (text.includes('Server is ready to receive web requests')) resolve('ready')
    })
  })
  return Promise.race([ready, once(child, 'close').then(() => text)])
}
