/** Every statement of src/db that reads a growing table, as the service runs it. */
import { buildStatements } from './build-statements.ts'
import { enrollmentStatements } from './enrollment-statements.ts'
import { eventStatements } from './event-statements.ts'
import type { Installation } from './installation.ts'
import { jobStatements } from './job-statements.ts'
import { listStatements } from './list-statements.ts'
import { pushStatements } from './push-statements.ts'
import type { Statement } from './statement.ts'
import { upkeepStatements } from './upkeep-statements.ts'

export function statementsOf(installation: Installation): readonly Statement[] {
  return [
    ...pushStatements(installation),
    ...listStatements(installation),
    ...enrollmentStatements(installation),
    ...buildStatements(),
    ...jobStatements(installation),
    ...eventStatements(installation),
    ...upkeepStatements(),
  ]
}
