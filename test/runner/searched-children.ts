/**
 * Loaded before every test file (suite.ts), and before the demo that one of them starts. When this process ends, exit
 * code 1 says that a child wrote a secret to a pipe of this process (R11), or that this process or a child emitted a
 * process warning. Secrets are those that were remembered by then, the settings of every child among them.
 */
import { writeSync } from 'node:fs'
import { watchChildren } from '../../testkit/process/child-output.ts'
import { collectWarnings } from '../../testkit/process/warnings.ts'
import { leaksIn, rememberSettings } from '../helpers/secrets.ts'

interface Output {
  readonly command: string
  readonly chunks: Buffer[]
}

const outputs: Output[] = []
const warnings = collectWarnings()

/** Of all children so far, as far as it was read. */
export function searchedBytes(): number {
  return outputs.flatMap(({ chunks }) => chunks).reduce((sum, chunk) => sum + chunk.length, 0)
}

watchChildren(({ command, options, isSync }) => {
  if (isSync) return () => {} // a tour shows its reader tokens
  rememberSettings(options.env ?? {})
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  for (const own of Object.values(chunks)) outputs.push({ command, chunks: own })
  return (pipe, chunk) => {
    if (chunk !== null) chunks[pipe].push(chunk)
  }
})

function fail(what: string): void {
  writeSync(2, `${what}\n`)
  process.exitCode = 1
}

process.on('exit', () => {
  for (const { command, chunks } of outputs) {
    const leaks = leaksIn(Buffer.concat(chunks).toString('utf8'))
    if (leaks.length > 0) fail(`secrets stand in what this wrote: ${command}\n${leaks.join('\n')}`)
  }
  for (const warning of warnings) fail(`a process warning: ${warning}`)
})
