/**
 * The service, but it kills itself (SIGKILL), or with FAILPOINT_DOES=throw has an uncaught exception, when it
 * reaches the failpoint FAILPOINT for the FAILPOINT_HIT-th time (from 1, default 1). For drills only: production runs src/main.ts, which has no failpoints.
 */
import { writeSync } from 'node:fs'
import { runProcess } from '../src/app/process.ts'

const { FAILPOINT, FAILPOINT_HIT = '1', FAILPOINT_DOES = 'kill' } = process.env
let hits = 0

runProcess({
  failpoint(reached) {
    if (reached !== FAILPOINT) return
    hits++
    if (hits !== Number(FAILPOINT_HIT)) return
    if (FAILPOINT_DOES === 'kill') {
      writeSync(2, `killed at ${reached}\n`) // its watchdog would leave the same signal behind
      process.kill(process.pid, 'SIGKILL')
    }
    process.nextTick(() => {
      throw new Error(`thrown at ${reached}`)
    })
  },
})
