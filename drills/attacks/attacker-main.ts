/** A process that attacks as it is told. */
import type { Assault, AssaultReport } from './assault.ts'
import { attack } from './attacker.ts'
import { serve } from './child.ts'

serve<Assault, AssaultReport>(attack)
