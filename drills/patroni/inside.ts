/**
 * A run in its own network namespace (`unshare --net node inside.js VALUES`): prints lines to stdout, sends the
 * figures to the parent.
 */

import type { Plan } from './drill.ts'
import { FAULTS } from './faults.ts'
import { runPatroni } from './run.ts'

const { faults, ...plan }: Plan = JSON.parse(process.argv[2] ?? '')
// Exit handlers end what was started here.
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
