/** A process that attacks as it is told. */

import { serve } from '../child.ts'
import type { Assault, AssaultReport } from './assault.ts'
import { attack } from './attack.ts'

serve<Assault, AssaultReport>(attack)
