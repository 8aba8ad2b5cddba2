/**
 * New connections come before the work of those that are open. Node accepts one connection in each turn of the event loop
 * (libuv since 1.45), so whatever a turn does, the last of a crowd waits for it once for each that came before: 64
 * downloads that began together, or 230 that were refused together, held up /healthz for 150 to 363 ms.
 */
import type { Server } from 'node:http'
import { Throttle } from '../lib/throttle.ts'

/** However many come: after so many turns the others have theirs. */
const MOST_TURNS = 8

/** Of this server: two pieces in each turn in which no connection was accepted, or in each eighth one. */
export function behindNewConnections(server: Server): Throttle {
  let isCrowd = false
  server.on('connection', () => {
    isCrowd = true
  })
  const later = (run: () => void, turns = 1): void => {
    setImmediate(() => {
      const mustWait = isCrowd && turns < MOST_TURNS
      isCrowd = false
      if (mustWait) later(run, turns + 1)
      else run()
    })
  }
  return new Throttle((run) => later(run))
}
