/** Every statement of src/db that reads a growing table, as the service runs it. */
import type { Installation } from '../installation.ts'
import { buildStatements } from './builds.ts'
import { enrollmentStatements } from './enrollment.ts'
import { eventStatements } from './events.ts'
import { jobStatements } from './jobs.ts'
import { listStatements } from './lists.ts'
import { pushStatements } from './push.ts'
import type { Statement } from './statement.ts'
import { upkeepStatements } from './upkeep.ts'

export function statementsOf(installation: Installation): readonly Statement[] {
  return [
    ...pushStatements(installation),
    ...listStatements(installation),
    ...enrollmentStatements(installation),
    ...buildStatements(installation),
    ...jobStatements(installation),
    ...eventStatements(installation),
    ...upkeepStatements(),
  ]
}
