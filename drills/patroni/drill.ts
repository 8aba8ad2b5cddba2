/**
 * `npm run drill -- patroni`: two replicas on three PostgreSQL under Patroni, set up as in docs/operate/scale.md, and
 * faults.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { defineDrill, type Figure, UsageError } from '../drill.ts'
import { FAULTS } from './faults.ts'
import { missingPrograms } from './programs.ts'
import { runPatroni } from './run.ts'

/** The part of a run that JSON can carry. */
export interface Plan {
  readonly dir: string
  readonly faults: readonly string[]
  readonly repeats: number
  readonly ratePerS: number
  readonly isMultiHost: boolean
}

const NAMES = FAULTS.map(({ name }) => name)

export const patroniDrill = defineDrill({
  name: 'patroni',
  promise:
    'failovers of a Patroni cluster under load: nothing acknowledged is missing, zero 401, back within 2 s of the database',
  options: {
    faults: { standard: NAMES.join(), what: 'some of them' },
    repeats: { standard: 3, what: 'of each fault' },
    rate: { standard: 100, what: 'requests a second: heartbeats, commands, results, reads' },
    'multi-host': { standard: false, what: 'no HAProxy before the database' },
  },
  async run({ faults, repeats, rate, 'multi-host': isMultiHost }, { dir, print }) {
    const chosen = faults.split(',')
    const unknown = chosen.find((name) => !NAMES.includes(name))
    if (unknown !== undefined) throw new UsageError(`there is no fault "${unknown}"`)
    const missing = missingPrograms(['etcd', 'haproxy', 'patroni'])
    if (missing !== false) return [{ promise: 'it runs', measured: missing, isHeld: false }]
    const plan: Plan = { dir, faults: chosen, repeats, ratePerS: rate, isMultiHost }
    if (mayNamespace()) return runInside(plan)
    const these = FAULTS.filter(({ name }) => chosen.includes(name))
    return runPatroni({ ...plan, faults: these, isNamespaced: false, print })
  },
})

function mayNamespace(): boolean {
  return process.geteuid?.() === 0 && spawnSync('unshare', ['--net', 'ip', 'link']).status === 0
}

/** A namespace belongs to a process, so it needs a child. */
async function runInside(plan: Plan): Promise<readonly Figure[]> {
  const script = fileURLToPath(new URL('inside.js', import.meta.url))
  const node = [process.execPath, '--enable-source-maps', script, JSON.stringify(plan)]
  const child = spawn('unshare', ['--net', ...node], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  // Its exit handler ends what it started; until then it uses our directory.
  process.once('exit', () => {
    child.kill('SIGTERM')
    spawnSync('tail', [`--pid=${child.pid}`, '-f', '/dev/null'], { timeout: 10_000 })
  })
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the run ended with exit code ${code}`)
  })
  const [figures] = (await Promise.race([once(child, 'message'), ended])) as [readonly Figure[]] // see inside.ts
  await ended.catch(() => {})
  return figures
}
