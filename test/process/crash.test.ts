/** An uncaught exception, and a stderr that nobody reads: what is logged is written, the exit code tells. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { createDatabase } from '../helpers/database.ts'
import { Lines } from '../helpers/lines.ts'
import { ADMIN } from '../helpers/service.ts'

const FAILING = fileURLToPath(new URL('../../testkit/failpoint-main.js', import.meta.url))

/** The service with a failpoint, killed at the end of `t`. */
async function launch(t: Test, env: Readonly<Record<string, string>>) {
  const dataDir = mkdtempSync(join(tmpdir(), 'fleetloop-data-'))
  const child = spawn(process.execPath, [FAILING], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      PORT: '0',
      DATA_DIR: dataDir,
      DATABASE_URL: await createDatabase(t),
      ADMIN_TOKENS: `tester=${ADMIN}`,
      HMAC_SECRET: 'test-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n',
      ...env,
    },
  })
  const closed = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await closed
    rmSync(dataDir, { recursive: true, force: true })
  })
  return { child, lines: new Lines(child.stdout), closed }
}

const THROWS = {
  FAILPOINT: 'after_commit_before_reply',
  FAILPOINT_HIT: '2',
  FAILPOINT_DOES: 'throw',
}

t.test(
  'an uncaught exception: the lines are written, the stack is on stderr, exit code 1',
  async (t) => {
    const { child, lines, closed } = await launch(t, THROWS)
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    await lines.waitFor((line) => line.event === 'service.ready')
    const origin = /listening on (\S+)/.exec(stderr)?.[1] ?? ''
    await (
      await fetch(`${origin}/admin/devices`, { headers: { authorization: `Bearer ${ADMIN}` } })
    ).text()
    await fetch(`${origin}/readyz`).catch(() => {}) // it may end before the answer is out
    t.same(await closed, [1, null])
    t.match(stderr, /Error: thrown at after_commit_before_reply\n {4}at /)
    t.equal(stderr.match(/thrown at/g)?.length, 1)
    t.match(lines.of('http.request'), [{ route: '/admin/devices', status_code: 200 }])
    t.ok(lines.text.endsWith('\n'), 'no line is cut')
  },
)

t.test('a stderr that nobody reads ends nothing', async (t) => {
  const { child, lines, closed } = await launch(t, {})
  child.stderr.destroy()
  await lines.waitFor((line) => line.event === 'service.ready')
  child.kill('SIGTERM')
  t.same(await closed, [0, null])
})

t.test('an uncaught exception with a stderr that nobody reads is exit code 1 too', async (t) => {
  const { child, lines, closed } = await launch(t, {
    ...THROWS,
    FAILPOINT: 'mid_shutdown',
    FAILPOINT_HIT: '1',
  })
  child.stderr.destroy()
  await lines.waitFor((line) => line.event === 'service.ready')
  child.kill('SIGTERM')
  t.same(await closed, [1, null])
})
