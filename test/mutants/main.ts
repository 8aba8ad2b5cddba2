/**
 * `npm run mutants`: do the tests notice a fault? Makes small changes to src, one at a time, each in a copy, and runs the
 * test files that execute the changed place until one fails. See CONTRIBUTING.md.
 */
import { parseArgs } from 'node:util'
import { startCluster } from '../runner/postgres.ts'
import { judgeChanges } from './changes.ts'
import { judgePlanted } from './planted.ts'
import { copyProject } from './workspace.ts'

const { values } = parseArgs({
  options: {
    planted: { type: 'boolean', default: false },
    /** Which changes, and how many that compile. */
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '150' },
    /** Only files whose path begins so: src/db */
    only: { type: 'string', default: '' },
    /** Later mutants are left to the next run, which continues there. */
    minutes: { type: 'string', default: '60' },
    /** How long test files of other parts are run for one change, by the time that they take without it. */
    seconds: { type: 'string', default: '60' },
    jobs: { type: 'string', default: '2' },
    /** 1/2: the first of two runs at once, which share the work. */
    part: { type: 'string', default: '1/1' },
  },
})
const [part = 1, parts = 1] = values.part.split('/').map(Number)
const over = new AbortController()
const clock = setTimeout(() => over.abort(), Number(values.minutes) * 60_000)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => over.abort())

const { cluster, stop } = await startCluster()
const workspaces = Array.from({ length: Number(values.jobs) }, () =>
  copyProject(process.cwd(), cluster, over.signal),
)
const crew = { workspaces, over: over.signal, part, parts }
try {
  if (values.planted) await judgePlanted(crew, values.only)
  else {
    await judgeChanges(crew, {
      seed: Number(values.seed),
      count: Number(values.count),
      only: values.only,
      budgetMs: Number(values.seconds) * 1_000,
    })
  }
} finally {
  clearTimeout(clock)
  for (const workspace of workspaces) workspace.remove()
  await stop()
}
