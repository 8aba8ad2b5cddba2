/** What the children of this process write to its pipes, whoever reads them and whenever. Development code. */
import childProcess, { type SpawnOptions } from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'

export interface Spawned {
  readonly command: string
  readonly options: SpawnOptions
  /** By spawnSync: it has ended. */
  readonly isSync: boolean
}

/** Gets what comes, as it comes; null at the end of the pipe. */
export type TakeOutput = (pipe: 'stdout' | 'stderr', chunk: Buffer | null) => void

/** From now on `watch` is called for each `spawn` and `spawnSync`; what it returns gets the output. */
export function watchChildren(watch: (spawned: Spawned) => TakeOutput): void {
  const spawn = new Proxy(childProcess.spawn, {
    apply(target, self, call: readonly unknown[]) {
      const child: ReturnType<typeof target> = Reflect.apply(target, self, call)
      const command = child.spawnargs.join(' ')
      const take = watch({ command, options: optionsOf(call), isSync: false })
      for (const pipe of ['stdout', 'stderr'] as const) {
        const stream = child[pipe]
        if (stream === null) continue
        // A listener of ours would make the stream flow.
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
  syncBuiltinESMExports() // what `import { spawn }` gives from now on
}

function optionsOf(call: readonly unknown[]): SpawnOptions {
  return Object(call.find((each) => !Array.isArray(each) && Object(each) === each))
}
