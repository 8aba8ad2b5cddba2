/**
 * `npm test`: one PostgreSQL for all test files, then suite.ts with the arguments given, then its end. A terminal sees
 * tap's report, a pipe the TAP itself.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { clusterEnv } from './cluster.ts'
import { startCluster } from './postgres.ts'

const { cluster, stop } = await startCluster()
try {
  const env = { ...process.env, ...clusterEnv(cluster) }
  const isReported = process.stdout.isTTY === true
  const suite = spawn(
    process.execPath,
    [fileURLToPath(new URL('suite.js', import.meta.url)), ...process.argv.slice(2)],
    { stdio: ['ignore', isReported ? 'pipe' : 'inherit', 'inherit'], env },
  )
  // `npm test` has node_modules/.bin on its PATH.
  if (isReported) spawn('tap', ['-'], { stdio: [suite.stdout, 'inherit', 'inherit'] })
  // Ctrl-C reaches the suite as well: its end is ours.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => suite.kill(signal))
  const [code] = await once(suite, 'close')
  process.exitCode = code ?? 1
} finally {
  await stop()
}
