/** Observes what child processes write to their pipes, independent of its readers. Development code. */
import childProcess, { type SpawnOptions } from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'

export interface Spawned {
  readonly command: string
  readonly options: SpawnOptions
  /** From spawnSync: it has ended. */
  readonly isSync: boolean
}

/** Receives chunks as they arrive; null at the end of the pipe. */
export type TakeOutput = (pipe: 'stdout' | 'stderr', chunk: Buffer | null) => void

/** Calls `watch` for each later `spawn` and `spawnSync`; its result receives the output. */
export function watchChildren(watch: (spawned: Spawned) => TakeOutput): void {
  const spawn = new Proxy(childProcess.spawn, {
    apply(target, self, call: readonly unknown[]) {
      const child: ReturnType<typeof target> = Reflect.apply(target, self, call)
      const command = child.spawnargs.join(' ')
      const take = watch({ command, options: optionsOf(call), isSync: false })
      for (const pipe of ['stdout', 'stderr'] as const) {
        const stream = child[pipe]
        if (stream === null) continue
        // A listener would make the stream flow.
        const push = stream.push.bind(stream)
        stream.push = (chunk: Buffer | null, encoding) => {
          take(pipe, chunk)
          return push(chunk, encoding)
        }
      }
      return child
    },
  })
  const spawnSync = new Proxy(childProcess.spawnSync, {
    apply(target, self, call: readonly unknown[]) {
      const ended: ReturnType<typeof target> = Reflect.apply(target, self, call)
      const [file, args] = call
      const command = [file, ...(Array.isArray(args) ? args : [])].join(' ')
      const take = watch({ command, options: optionsOf(call), isSync: true })
      for (const pipe of ['stdout', 'stderr'] as const) {
        take(pipe, Buffer.from(ended[pipe] ?? ''))
        take(pipe, null)
      }
      return ended
    },
  })
  Object.assign(childProcess, { spawn, spawnSync })
  syncBuiltinESMExports() // updates `import { spawn }`
}

function optionsOf(call: readonly unknown[]): SpawnOptions {
  return Object(call.find((each) => !Array.isArray(each) && Object(each) === each))
}
