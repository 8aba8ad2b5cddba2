/** The readers of the drill: processes that are killed, and begin again where their journals end. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { atExit } from '../../testkit/process/at-exit.ts'
import type { Manner } from './journal.ts'

const MANNERS: readonly Manner[] = ['poll', 'filter', 'stream']

export interface Reader {
  readonly manner: Manner
  readonly journal: string
  /** SIGKILL; it begins again at once. */
  kill(): Promise<void>
  end(): Promise<void>
}

/** One of each manner. */
export function startReaders(
  dir: string,
  token: string,
  origins: readonly string[],
): readonly Reader[] {
  return MANNERS.map((manner) => {
    const journal = join(dir, `${manner}.journal`)
    const start = () => forkReader([journal, manner, token, ...origins])
    let life = start()
    const end = async () => {
      life.kill('SIGKILL')
      if (life.exitCode === null && life.signalCode === null) await once(life, 'exit')
    }
    return {
      manner,
      journal,
      async kill() {
        await end()
        life = start()
      },
      end,
    }
  })
}

function forkReader(args: readonly string[]): ChildProcess {
  const child = fork(new URL('./reader.js', import.meta.url), args)
  child.once(
    'exit',
    atExit(() => child.kill('SIGKILL')),
  )
  return child
}
