/**
 * The request context, passed explicitly beside AsyncLocalStorage: what one request of six awaits and one use of
 * the context costs in each. A process for each figure, since the first `run` slows every promise of its process
 * on Node 20 (promise hooks).
 *
 *   npm run bench:context -- [--rounds 7]
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { median } from '../testkit/statistics.ts'

interface Context {
  readonly requestId: string
}

const REQUESTS = 200_000
const AWAITS = 6
let uses = 0

async function explicit(context: Context): Promise<void> {
  for (let step = 0; step < AWAITS; step++) await undefined
  if (context.requestId !== '') uses++
}

const storage = new AsyncLocalStorage<Context>()
async function implicit(): Promise<void> {
  for (let step = 0; step < AWAITS; step++) await undefined
  if (storage.getStore()?.requestId !== '') uses++
}

const WAYS: Readonly<Record<string, (context: Context) => Promise<void>>> = {
  explicit,
  AsyncLocalStorage: (context) => storage.run(context, implicit),
}

async function nsPerRequest(serve: (context: Context) => Promise<void>): Promise<number> {
  const before = process.cpuUsage()
  for (let index = 0; index < REQUESTS; index++) await serve({ requestId: `r-${index}` })
  const { user, system } = process.cpuUsage(before)
  return ((user + system) * 1000) / REQUESTS
}

const { values, positionals } = parseArgs({
  options: { rounds: { type: 'string', default: '7' } },
  allowPositionals: true,
})
const serve = WAYS[positionals[0] ?? '']
if (serve !== undefined) {
  await nsPerRequest(serve) // warms up
  console.log(await nsPerRequest(serve))
  if (uses !== 2 * REQUESTS) throw new Error('nothing was measured')
} else {
  const figures = new Map(Object.keys(WAYS).map((way) => [way, Array.of<number>()]))
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [way, ns] of figures) {
      const said = execFileSync(process.execPath, [fileURLToPath(import.meta.url), way])
      ns.push(Number(said.toString()))
    }
  }
  for (const [way, ns] of figures) {
    console.log(`${way.padEnd(18)} ${median(ns).toFixed(0)} ns of CPU a request`)
  }
}
