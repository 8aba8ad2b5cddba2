/**
 * Accepts new connections before it works for open ones. libuv (since 1.45) accepts one connection in each turn of the event
 * loop, so in a crowd the last one waits for the work of as many turns as came before it: 64 downloads that began together,
 * or 230 that were refused together, delayed /healthz by 150 to 363 ms; 1,000 that pipelined, in a process that had just
 * started, by 360.
 */
import type { Server } from 'node:http'
import { PAUSE_MS, Throttle } from '../../lib/throttle.ts'

/** After this many turns open connections go on, however many new ones arrive. */
const MOST_TURNS = 8
/**
 * First requests and chunks that wait. Two of them run in MOST_TURNS of 0.35 ms, so while connections come without end none
 * waits longer than 0.36 s. Without a bound 3,800 connections a second delayed every first request by 1.2 s.
 */
const MAX_WAITING_FOR_TURN = 256

/** Runs two callbacks in each turn without a new connection, and in every eighth turn. */
export function behindNewConnections(server: Server): Throttle {
  return new Throttle(scheduleOn(server), MAX_WAITING_FOR_TURN)
}

/** As `behindNewConnections`, with a pause before each two that leaves the CPU to others, and any number waiting. */
export function behindAllOthers(server: Server): Throttle {
  const schedule = scheduleOn(server)
  return new Throttle((run) => void setTimeout(schedule, PAUSE_MS, run))
}

/** Returns a function that calls `run` after a turn without a new connection, or after MOST_TURNS. */
function scheduleOn(server: Server): (run: () => void) => void {
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
  return (run) => later(run)
}
