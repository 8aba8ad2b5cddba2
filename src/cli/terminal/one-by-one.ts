/** The same change to one thing after the other. */
import { ApiError } from '../api/client.ts'
import { EXIT, type ExitCode } from '../verb.ts'
import type { Terminal } from './terminal.ts'

/** Returns `no` if the service refused one: its reason is printed, and the others go on. Throws at any other failure. */
export async function oneByOne<T>(
  terminal: Pick<Terminal, 'note'>,
  items: readonly T[],
  change: (item: T, index: number) => Promise<void>,
): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok
  for (const [index, item] of items.entries()) {
    try {
      await change(item, index)
    } catch (error) {
      if (!(error instanceof ApiError) || error.failure !== 'refused') throw error
      terminal.note(error.message)
      code = EXIT.no
    }
  }
  return code
}
