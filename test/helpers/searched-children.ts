/**
 * Loaded before every test file (suite.ts), and before the demo that one of them starts: whatever a child writes to a pipe
 * of this process is searched for secrets when this process ends, and a find is exit code 1 (R11). Secrets are those
 * that were remembered by then, the settings of every child among them.
 */
import childProcess, { type SpawnOptions } from 'node:child_process'
import { writeSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import type { Readable } from 'node:stream'
import { leaksIn, rememberSettings } from './secrets.ts'

interface Output {
  readonly command: string
  readonly chunks: Buffer[]
}

const outputs: Output[] = []

/** Of all children so far, as far as it was read. */
export function searchedBytes(): number {
  return outputs.flatMap(({ chunks }) => chunks).reduce((sum, chunk) => sum + chunk.length, 0)
}

/** Whoever reads the stream, and whenever: a listener of ours would make it flow. */
function keep(command: string, stream: Readable): void {
  const chunks: Buffer[] = []
  outputs.push({ command, chunks })
  const push = stream.push.bind(stream)
  stream.push = (chunk: Buffer | null, encoding) => {
    if (chunk !== null) chunks.push(chunk)
    return push(chunk, encoding)
  }
}

const spawn = new Proxy(childProcess.spawn, {
  apply(target, self, call: readonly unknown[]) {
    const options: SpawnOptions = Object(
      call.find((each) => !Array.isArray(each) && Object(each) === each),
    )
    rememberSettings(options.env ?? {})
    const child: ReturnType<typeof target> = Reflect.apply(target, self, call)
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) keep(child.spawnargs.join(' '), stream)
    }
    return child
  },
})
Object.assign(childProcess, { spawn })
syncBuiltinESMExports() // what `import { spawn }` gives from now on

process.on('exit', () => {
  for (const { command, chunks } of outputs) {
    const leaks = leaksIn(Buffer.concat(chunks).toString('utf8'))
    if (leaks.length === 0) continue
    writeSync(2, `secrets stand in what this wrote: ${command}\n${leaks.join('\n')}\n`)
    process.exitCode = 1
  }
})
