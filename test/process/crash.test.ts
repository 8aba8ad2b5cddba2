/** An uncaught exception, and a stderr without a reader: what is logged is written, the exit code tells. */
import t, { type Test } from 'tap'
import { createDatabase } from '../helpers/database.ts'
import { ADMIN, launchService, settings } from '../helpers/service.ts'

/** The service with a failpoint, killed at the end of `t`. */
async function launch(t: Test, env: Readonly<Record<string, string>>) {
  const given = { ...settings(await createDatabase(t)), ...env }
  return launchService(t, given, { main: 'testkit/failpoint-main.js' })
}

const THROWS = {
  FAILPOINT: 'after_commit_before_reply',
  FAILPOINT_HIT: '2',
  FAILPOINT_DOES: 'throw',
}

t.test(
  'an uncaught exception: the lines are written, the stack is on stderr, exit code 1',
  async (t) => {
    const again = `process.once('uncaughtExceptionMonitor', () => Promise.reject(new Error('a second one')))`
    const { lines, ended, notes, ...service } = await launch(t, {
      ...THROWS,
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(again)}`,
    })
    await lines.waitFor((line) => line.event === 'service.ready')
    const origin = await service.origin
    await (
      await fetch(`${origin}/admin/devices`, { headers: { authorization: `Bearer ${ADMIN}` } })
    ).text()
    await fetch(`${origin}/readyz`).catch(() => {}) // it may end before the answer is out
    t.same(await ended, { code: 1, signal: null })
    t.match(notes(), /Error: thrown at after_commit_before_reply\n {4}at /)
    t.equal(notes().match(/thrown at/g)?.length, 1)
    t.notMatch(notes(), 'a second one', 'what breaks meanwhile is a consequence')
    t.match(lines.of('http.request'), [{ route: '/admin/devices', status_code: 200 }])
    t.ok(lines.text.endsWith('\n'), 'no line is cut')
  },
)

t.test('a stderr that nobody reads ends nothing', async (t) => {
  const { process, lines, ended, signal } = await launch(t, {})
  process.stderr?.destroy()
  await lines.waitFor((line) => line.event === 'service.ready')
  signal('SIGTERM')
  t.same(await ended, { code: 0, signal: null })
})

t.test('an uncaught exception with a stderr that nobody reads is exit code 1 too', async (t) => {
  const { process, lines, ended, signal } = await launch(t, {
    ...THROWS,
    FAILPOINT: 'mid_shutdown',
    FAILPOINT_HIT: '1',
  })
  process.stderr?.destroy()
  await lines.waitFor((line) => line.event === 'service.ready')
  signal('SIGTERM')
  t.same(await ended, { code: 1, signal: null })
})
