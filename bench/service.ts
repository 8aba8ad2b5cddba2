/** A service under a bench: a process whose stdout is a pipe that `cat` empties, as a log collector does in production. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { registrationBody } from '../sim/device/body.ts'
import { issueEnrollmentTokens } from '../sim/fleet.ts'
import { bodyOf, createSend, jsonHeaders, textOf } from '../testkit/http/client.ts'

export interface BenchService {
  readonly origin: string
  readonly adminToken: string
  readonly pid: number
  /** From the start of the process to the first 200 of /readyz. */
  readonly startupMs: number
  /** SIGTERM, and its end. */
  stop(): Promise<void>
}

export interface BenchDevice {
  readonly alias: string
  readonly deviceId: string
  readonly token: string
}

/** Beside bench/ in whatever folder this was compiled to. */
const MAINS = { normal: '../src/main.js', noMetrics: './main-no-metrics.js' } as const
/** Node's pipes for children are sockets, production's are pipes: a shell makes one, and tells the service's pid. */
const SHELL = `sh -c 'echo "pid $$" >&2; exec "$0" "$@"' "$0" "$@" | cat >/dev/null`
const POLL_MS = 20
/** Resolves when it serves requests. `settings`: its environment besides what every service needs; `nodeArgs`: for node. */
export async function startBenchService(
  main: keyof typeof MAINS,
  settings: Readonly<Record<string, string>>,
  nodeArgs: readonly string[] = [],
): Promise<BenchService> {
  const startedAtMs = performance.now()
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-bench-'))
  const adminToken = randomBytes(32).toString('base64url')
  const path = fileURLToPath(new URL(MAINS[main], import.meta.url))
  const child = spawn('sh', ['-c', SHELL, process.execPath, ...nodeArgs, path], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true, // Ctrl-C reaches us alone
    env: {
      PATH: process.env['PATH'],
      PORT: '0',
      DATA_DIR: dataDir,
      ADMIN_TOKENS: `bench=${adminToken}`,
      HMAC_SECRET: randomBytes(32).toString('base64url'),
      RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
      ...settings,
    },
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const find = async (pattern: RegExp): Promise<string> => {
    for (;;) {
      const found = pattern.exec(said)?.[1]
      if (found !== undefined) return found
      if (child.exitCode !== null) throw new Error(`the service ended: ${said}`)
      await wait(POLL_MS)
    }
  }
  const pid = Number(await find(/^pid (\d+)$/m))
  const origin = await find(/^listening on (\S+)$/m)
  const send = createSend(origin)
  while ((await send({ method: 'GET', path: '/readyz' })).status !== 200) await wait(POLL_MS)

  return {
    origin,
    adminToken,
    pid,
    startupMs: performance.now() - startedAtMs,
    async stop() {
      if (child.exitCode === null) process.kill(pid, 'SIGTERM')
      await ended
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}

/** Devices enrolled through the public API. */
export async function enrollBenchDevices(
  { origin, adminToken }: BenchService,
  count: number,
): Promise<readonly BenchDevice[]> {
  const send = createSend(origin)
  const aliases = Array.from({ length: count }, (_, index) => `B${index}`)
  const devices: BenchDevice[] = []
  for (const [alias, token] of await issueEnrollmentTokens(send, adminToken, aliases)) {
    const answer = await send({
      method: 'POST',
      path: '/v1/register',
      headers: jsonHeaders(token),
      body: registrationBody(alias, null),
    })
    const body = bodyOf(answer)
    if (answer.status !== 201) throw new Error(`a registration was answered with ${answer.status}`)
    devices.push({
      alias,
      deviceId: textOf(body, 'device_id'),
      token: textOf(body, 'device_token'),
    })
  }
  return devices
}
