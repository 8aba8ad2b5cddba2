/** Plants each of planted-faults.ts in turn, and says whether the test that is named there fails. */
import { readFileSync } from 'node:fs'
import { type Crew, FILE_TIMEOUT_MS, inParallel, named, print, SUITE_TIMEOUT_MS } from './crew.ts'
import { PLANTED, type Planted } from './planted-faults.ts'
import type { Ran } from './workspace.ts'

/** Of files whose path begins with `only`. */
export async function judgePlanted(crew: Crew, only: string): Promise<void> {
  const unchanged = new Map<string, Promise<Ran>>()
  const faults = PLANTED.filter(({ file }) => file.startsWith(only))
  let caught = 0
  await inParallel(crew, faults, async (planted, workspace) => {
    const { file, before, after, test, title } = planted
    const text = readFileSync(file, 'utf8')
    if (text.split(before).length !== 2) throw new Error(`not there once: ${planted.name}`)
    const whole = unchanged.get(test) ?? workspace.run(test, FILE_TIMEOUT_MS)
    unchanged.set(test, whole)
    const isSound = (await whole).isOk
    const isMade = await workspace.change(
      file,
      text.replace(before, () => after),
    )
    const ran = await workspace.runWhole(test, SUITE_TIMEOUT_MS)
    workspace.restore()
    if (crew.over.aborted) return
    const isSeen = ran.failures.some((failure) => failure.includes(title))
    const isCaught = isSound && isMade && isSeen
    if (isCaught) caught += 1
    print(`${isCaught ? 'caught  ' : 'MISSED  '} ${file}: ${planted.name}`)
    print(`          ${named(test)}: ${isCaught ? title : reasonOf(planted, isSound, isMade, ran)}`)
  })
  print(`${caught} of ${faults.length} planted faults are caught`)
  process.exitCode = caught === faults.length ? 0 : 1
}

function reasonOf({ title }: Planted, isSound: boolean, isMade: boolean, ran: Ran): string {
  if (!isSound) return 'it fails without the fault, too'
  if (!isMade) return 'the fault does not compile'
  return ran.isOk ? 'it does not fail' : `it fails elsewhere: ${ran.failures[0]} (not in: ${title})`
}
