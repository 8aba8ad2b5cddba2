/** Drills in their short form: where they run, and how their figures are judged. */
import { join } from 'node:path'
import type { Test } from 'tap'
import type { DatabaseEnvironment, DrillEnvironment, Figure } from '../../drills/drill.ts'
import { createDatabase } from './database.ts'
import { databaseDirectory } from './directory.ts'

export function drillEnvironment(t: Test): DrillEnvironment {
  const dir = databaseDirectory(t)
  return { dir, dataDir: join(dir, 'data'), print: (line) => void t.comment(line) }
}

/** With a migrated database of its own. */
export async function databaseEnvironment(t: Test): Promise<DatabaseEnvironment> {
  return { ...drillEnvironment(t), databaseUrl: await createDatabase(t) }
}

/** Tests share their machine: figures in time and memory are only printed. */
export function held(t: Test, figures: readonly Figure[]): void {
  for (const { promise, measured, isHeld, isTimed } of figures) {
    t.ok(isHeld || isTimed, `${promise}: ${measured}`)
  }
}
