/** The entry point of an attacker's process. */

import { serve } from '../child.ts'
import type { Assault, AssaultReport } from './assault.ts'
import { attack } from './attack.ts'

serve<Assault, AssaultReport>(attack)
