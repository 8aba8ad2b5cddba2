/** A service under a bench, whose stdout is a pipe emptied by `cat`, as a log collector does in production. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { createSend } from '../testkit/http/client.ts'
import { inShell, launch } from '../testkit/service.ts'

export interface BenchService {
  readonly origin: string
  readonly adminToken: string
  readonly pid: number
  /** From the start of the process to the first 200 of /readyz. */
  readonly startupMs: number
  stop(): Promise<void>
}

const MAINS = { normal: 'src/main.js', noMetrics: 'bench/main-no-metrics.js' } as const
/** Node's pipes for children are sockets, production's are pipes: a shell makes one, and prints the service's pid. */
const PIPED = inShell(`sh -c 'echo "pid $$" >&2; exec "$@"' sh "$@" | cat >/dev/null`)
const POLL_MS = 20

/** Resolves when it serves requests. `settings` are added to those that every service needs. */
export async function startBenchService(
  main: keyof typeof MAINS,
  settings: Readonly<Record<string, string>>,
  nodeArgs: readonly string[] = [],
): Promise<BenchService> {
  const startedAtMs = performance.now()
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-bench-'))
  const adminToken = randomBytes(32).toString('base64url')
  const service = launch({
    main: MAINS[main],
    nodeArgs,
    command: PIPED,
    stdout: 'ignore',
    isDetached: true, // Ctrl-C reaches only us
    settings: {
      DATA_DIR: dataDir,
      ADMIN_TOKENS: `bench=${adminToken}`,
      HMAC_SECRET: randomBytes(32).toString('base64url'),
      RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
      ...settings,
    },
  })
  const pid = Number(await service.noted(/^pid (\d+)$/m))
  const origin = await service.origin
  const send = createSend(origin)
  while ((await send({ method: 'GET', path: '/readyz' })).status !== 200) await wait(POLL_MS)

  return {
    origin,
    adminToken,
    pid,
    startupMs: performance.now() - startedAtMs,
    async stop() {
      if (service.process.exitCode === null) process.kill(pid, 'SIGTERM')
      await service.ended
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}
