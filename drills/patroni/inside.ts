/** A run in a network namespace of its own (`unshare --net node inside.js VALUES`): lines go to stdout, the figures to the parent. */

import type { Plan } from './drill.ts'
import { FAULTS } from './faults.ts'
import { runPatroni } from './run.ts'

const { faults, ...plan }: Plan = JSON.parse(process.argv[2] ?? '')
// The exit handlers of what runs here end it.
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => process.exit(130))
process.once('disconnect', () => process.exit(130))

runPatroni({
  ...plan,
  faults: FAULTS.filter(({ name }) => faults.includes(name)),
  isNamespaced: true,
  print: (line) => void process.stdout.write(`${line}\n`),
}).then(
  (figures) => {
    process.send?.(figures, () => process.exit())
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
    process.exit(1)
  },
)
