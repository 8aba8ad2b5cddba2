/**
 * The service, but it kills itself (SIGKILL) when it reaches the failpoint FAILPOINT for the FAILPOINT_HIT-th time
 * (from 1, default 1). For drills only: production runs src/main.ts, which has no failpoints.
 */
import { runProcess } from '../src/process.ts'

const { FAILPOINT, FAILPOINT_HIT = '1' } = process.env
let hits = 0

runProcess({
  failpoint(reached) {
    if (reached !== FAILPOINT) return
    hits++
    if (hits === Number(FAILPOINT_HIT)) process.kill(process.pid, 'SIGKILL')
  },
})
