/** The process as it starts, ready or not, and what it says where it refuses to. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Lines } from '../helpers/lines.ts'
import { ADMIN, MAIN } from '../helpers/service.ts'

const EX_CONFIG = 78

export interface Launched {
  readonly process: ChildProcess
  readonly lines: Lines
  readonly stderr: () => string
  readonly exit: Promise<number | null>
  /** Resolves when the port is open. */
  origin(): Promise<string>
}

/** The process, ready or not; killed at the end of `t`. */
export function launch(t: Test, env: Readonly<Record<string, string>>): Launched {
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-data-'))
  const child = spawn(process.execPath, ['--enable-source-maps', MAIN], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], PORT: '0', DATA_DIR: dataDir, ...env },
  })
  let text = ''
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (more: string) => {
    text += more
  })
  const exit = once(child, 'close').then(([code]) => code as number | null) // 'close' gives the code first
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
    rmSync(dataDir, { recursive: true, force: true })
  })
  return {
    process: child,
    lines: new Lines(child.stdout),
    stderr: () => text,
    exit,
    async origin() {
      for (;;) {
        const found = /listening on (\S+)/.exec(text)?.[1]
        if (found !== undefined) return found
        await once(child.stderr, 'data')
      }
    },
  }
}

export function settings(databaseUrl: string): Record<string, string> {
  return {
    DATABASE_URL: databaseUrl,
    ADMIN_TOKENS: `tester=${ADMIN}`,
    HMAC_SECRET: 'test-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n',
  }
}

/** Exit code 78 and no request served; gives what was said. */
export async function refused(t: Test, env: Readonly<Record<string, string>>): Promise<string> {
  const launched = launch(t, env)
  const serves = launched.lines
    .waitFor(({ event }) => event === 'service.ready')
    .then(
      () => 'it serves',
      () => launched.exit,
    )
  t.equal(await Promise.race([launched.exit, serves]), EX_CONFIG, launched.stderr())
  t.equal(launched.lines.of('service.ready').length, 0)
  t.notMatch(launched.stderr(), /\n +at /, 'a message, no stack')
  return launched.stderr()
}
